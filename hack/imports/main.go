// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Command imports checks the directions in which dependencies may point. The rules are in rules.go. Run it at the top of the module:
//
//	go run ./hack/imports
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

func main() {
	module, err := output("go", "list", "-m")
	if err != nil {
		fatal(err)
	}
	listed, err := output("go", "list", "-deps", "-tags=integration", "-json=ImportPath,Imports,Standard", "./...")
	if err != nil {
		fatal(err)
	}
	g, err := read(strings.NewReader(listed))
	if err != nil {
		fatal(err)
	}
	broken := check(strings.TrimSpace(module), g, rules)
	for _, b := range broken {
		fmt.Println(b)
	}
	if len(broken) > 0 {
		fatal(fmt.Errorf("%d imports against the rules of hack/imports/rules.go", len(broken)))
	}
}

// read takes what go list -json prints: one object a package.
func read(r io.Reader) (graph, error) {
	g := graph{}
	for dec := json.NewDecoder(r); ; {
		var p struct {
			ImportPath string
			Imports    []string
			Standard   bool
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return g, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what go list printed: %w", err)
		}
		if !p.Standard {
			g[p.ImportPath] = p.Imports
		}
	}
}

func output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return string(out), nil
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "imports:", err)
	os.Exit(1)
}
