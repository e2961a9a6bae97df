// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"
	"testing/fstest"
)

func TestCheckHeaders(t *testing.T) {
	const header = "// Copyright\n// Licence\n\n"
	tree := fstest.MapFS{}
	for file, text := range map[string]string{
		"good.go":            header + "package a\n",
		"constraint.go":      "//go:build !x\n// +build !x\n\n" + header + "package a\n",
		"pkg/bad.go":         "package a\n",
		"pkg/late.go":        "// Package a.\n" + header + "package a\n",
		"pkg/bad.txt":        "no Go file",
		"_output/generated":  "",
		"_output/foreign.go": "package a\n",
		".git/foreign.go":    "package a\n",
	} {
		tree[file] = &fstest.MapFile{Data: []byte(text)}
	}
	got, err := checkHeaders(tree, []byte(header))
	if want := []string{"pkg/bad.go", "pkg/late.go"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}
