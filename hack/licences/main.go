// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Command licences checks that each Go file of the repository has the header of hack/boilerplate.go.txt, and that each
// module that gets linked into our programs has a licence that allows it. It asks nobody: what it reads is in the module
// cache. Run it at the top of the repository:
//
//	go run ./hack/licences          check
//	go run ./hack/licences -fix     add missing headers, then check
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	fix := flag.Bool("fix", false, "add missing headers")
	flag.Parse()
	header, err := os.ReadFile("hack/boilerplate.go.txt")
	if err != nil {
		fatal(err)
	}
	missing, err := checkHeaders(os.DirFS("."), header)
	if err != nil {
		fatal(err)
	}
	if *fix {
		for _, file := range missing {
			if err := addHeader(file, header); err != nil {
				fatal(err)
			}
			fmt.Println("header added to", file)
		}
		missing = nil
	}
	problems, err := checkModules("./cmd/...")
	if err != nil {
		fatal(err)
	}
	for _, file := range missing {
		problems = append(problems, file+": the header of hack/boilerplate.go.txt is missing: make update-licences")
	}
	for _, p := range problems {
		fmt.Println(p)
	}
	if len(problems) > 0 {
		fatal(fmt.Errorf("%d problems", len(problems)))
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "licences:", err)
	os.Exit(1)
}
