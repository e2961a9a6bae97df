// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// shell runs a command with the given standard input in a directory.
func shell(t *testing.T, dir, stdin, command string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// values are the values of a map, sorted.
func values(m map[string]string) []string {
	var v []string
	for _, s := range m {
		v = append(v, s)
	}
	slices.Sort(v)
	return v
}

// contains fails the test unless every string is in text.
func contains(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, s := range want {
		if !strings.Contains(text, s) {
			t.Errorf("want %q in:\n%s", s, text)
		}
	}
}

// refused fails the test unless kubectl failed, saying all the given.
func refused(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Error("kubectl exited 0, was to be refused")
		return
	}
	contains(t, err.Error(), want...)
}
