// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheKernelWritesTheCoreWhereItIsToldAndThePatternIsPutBack(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("setting core_pattern needs root")
	}
	before := settings(t)
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
	if after := settings(t); after != before || strings.Contains(after, marker) {
		t.Errorf("core_pattern is %q, was %q", after, before)
	}
}

// settings are those while nobody else has changed them for a while.
func settings(t *testing.T) (text string) {
	t.Helper()
	err := WithSettings(func() error {
		pattern, err := os.ReadFile(patternFile)
		limit, err2 := os.ReadFile(limitFile)
		text = string(pattern) + string(limit)
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestSettingsArePutBackWhateverHappened(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("setting core_pattern needs root")
	}
	before := settings(t)
	failed := errors.New("failed")
	err := WithSettings(func() error {
		return errors.Join(os.WriteFile(patternFile, []byte("/tmp/"+marker+"x/core"), 0), os.WriteFile(limitFile, []byte("7"), 0), failed)
	})
	if !errors.Is(err, failed) {
		t.Error(err)
	}
	if after := settings(t); after != before {
		t.Errorf("the settings are %q, were %q", after, before)
	}
}
