// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheKernelWritesTheCoreWhereItIsToldAndThePatternIsPutBack(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("setting core_pattern needs root")
	}
	before, err := os.ReadFile(patternFile)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", marker)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, err := Build(filepath.Join("..", ".."), dir)
	if err != nil {
		t.Fatal(err)
	}
	err = WithPattern(dir, "core-%e-%t-%p-%s", func() error {
		_, err := Run(program, "1")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cores, _ := filepath.Glob(filepath.Join(dir, "core-crasher-*-11"))
	if len(cores) != 1 {
		entries, _ := os.ReadDir(dir)
		t.Errorf("cores: %v, want one of crasher with signal 11; the directory has %v", cores, entries)
	}
	after, _ := os.ReadFile(patternFile)
	if string(after) != string(before) || strings.Contains(string(after), marker) {
		t.Errorf("core_pattern is %q, was %q", after, before)
	}
}
