// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// linked is a package that gets linked into one of our programs.
type linked struct {
	ImportPath string
	Dir        string
	Module     *struct {
		Path, Version, Dir string
		Main               bool
	}
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)`)

// checkModules looks for licences in the directory of each linked package and in those above it, up to the module's: code that a
// module took from elsewhere brings its own.
func checkModules(programs string) (problems []string, err error) {
	packages, err := list(programs)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{} // directories
	for _, p := range packages {
		if p.Module == nil || p.Module.Main {
			continue // the standard library, or ours
		}
		found := false
		for dir := p.Dir; ; dir = filepath.Dir(dir) {
			files, bad, err := read(dir)
			if err != nil {
				return nil, err
			}
			found = found || files > 0
			if !seen[dir] {
				problems = append(problems, bad...)
			}
			seen[dir] = true
			if dir == p.Module.Dir {
				break
			}
		}
		if !found {
			problems = append(problems, fmt.Sprintf("%s (module %s): no licence found", p.ImportPath, p.Module.Path))
		}
	}
	return slices.Compact(problems), nil
}

// read counts the files in the directory that have licences, and tells of those that do not allow us to link.
func read(dir string) (files int, problems []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !licenceFile.MatchString(e.Name()) || filepath.Ext(e.Name()) == ".go" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return 0, nil, err
		}
		files++
		names, allowed := classify(string(text))
		if !allowed {
			problems = append(problems, fmt.Sprintf("%s: not allowed, or not known: %q", filepath.Join(dir, e.Name()), strings.Join(names, ", ")))
		}
	}
	return files, problems, nil
}

func list(programs string) (packages []linked, err error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Module", programs)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p linked
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what go list printed: %w", err)
		}
		packages = append(packages, p)
	}
}
