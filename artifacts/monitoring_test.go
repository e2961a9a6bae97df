// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package artifacts

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// declared are the ways in which the programs give their metrics names.
var declared = []struct {
	pattern *regexp.Regexp
	prefix  string
}{
	{regexp.MustCompile(`Name:\s+"(coredump_[a-z_]*[a-z])"`), ""},
	{regexp.MustCompile(`Subsystem: (?:subsystem|"coredump_nodehandler"), Name: "([a-z_]+)"`), "coredump_nodehandler_"},
	{regexp.MustCompile(`gauge(?:ByRule)?\("([a-z_]+)"`), "coredump_gc_"},
}

func TestTheDocumentationNamesTheMetricsThatThereAre(t *testing.T) {
	metrics := map[string]bool{}
	for _, dir := range []string{"../pkg", "../cmd"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			for _, d := range declared {
				for _, m := range d.pattern.FindAllSubmatch(source, -1) {
					metrics[d.prefix+string(m[1])] = true
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	document, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, name := range regexp.MustCompile(`coredump_(?:nodehandler|apiserver|gc)_[a-z_]+`).FindAllString(string(document), -1) {
		named[name] = true
	}
	if got, want := slices.Sorted(maps.Keys(named)), slices.Sorted(maps.Keys(metrics)); !slices.Equal(got, want) {
		t.Errorf("named:\n%s\nthere are:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
