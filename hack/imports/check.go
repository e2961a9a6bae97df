// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"sort"
	"strings"
)

// graph tells what each package imports, by import path.
type graph map[string][]string

// check gives one line for each package that breaks a rule, with the way by which it comes to what is forbidden.
func check(module string, g graph, rules []rule) []string {
	var broken []string
	for _, r := range rules {
		for _, pkg := range packages(module, g) {
			inside := strings.TrimPrefix(pkg, module+"/")
			if !matchAny(r.packages, inside) || matchAny(r.except, inside) {
				continue
			}
			bad := func(path string) bool {
				path = strings.Replace(path, module+"/", "./", 1)
				return matchAny(r.forbidden, path) && !matchAny(r.allowed, path)
			}
			if way := g.find(pkg, r.directly, bad); way != nil {
				broken = append(broken, fmt.Sprintf("%s\n\t%s", strings.Join(way, "\n\t-> "), r.because))
			}
		}
	}
	return broken
}

// find searches breadth first, so that the way it gives is a shortest one.
func (g graph) find(from string, directly bool, bad func(string) bool) []string {
	before := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		for _, path := range g[queue[0]] {
			if _, seen := before[path]; seen {
				continue
			}
			before[path] = queue[0]
			if bad(path) {
				return wayTo(path, before)
			}
			if !directly {
				queue = append(queue, path)
			}
		}
	}
	return nil
}

func wayTo(path string, before map[string]string) []string {
	if path == "" {
		return nil
	}
	return append(wayTo(before[path], before), path)
}

// packages are those of the module, sorted.
func packages(module string, g graph) []string {
	var paths []string
	for path := range g {
		if strings.HasPrefix(path, module+"/") {
			paths = append(paths, path)
		}
	}
	sort.Strings(paths)
	return paths
}

// matchAny tells whether the path is one of the patterns, or below one that ends with "...".
func matchAny(patterns []string, path string) bool {
	for _, p := range patterns {
		tree, isTree := strings.CutSuffix(p, "...")
		if path == p || isTree && strings.HasPrefix(path+"/", tree) {
			return true
		}
	}
	return false
}
