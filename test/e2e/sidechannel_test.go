// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sameAsTheKernelSent puts a program between the kernel and corepipe that hashes what passes (test/e2e/tee), and compares with what a user downloads.
func sameAsTheKernelSent(t *testing.T, m mode) {
	f := &shared
	ns := f.namespace(t, string(m.mode)+"-bytes")
	user := f.user(t, ns)
	pattern, err := os.ReadFile(corePattern)
	if err != nil {
		t.Fatal(err)
	}
	helper, _, _ := strings.Cut(strings.TrimPrefix(string(pattern), "|"), " ")
	sums := filepath.Join(dir, "sums")
	if err := os.MkdirAll(sums, 0o700); err != nil {
		t.Fatal(err)
	}
	// The name that the kernel knows is a link for the moment of the exchange: nothing that runs is written to, and there is always one of both.
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", helper+".tee", "-ldflags", "-X main.helper="+helper+".real -X main.sums="+sums, "./tee")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Link(helper, helper+".real"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(helper+".tee", helper); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Rename(helper+".real", helper); err != nil {
			t.Error(err)
		}
	})
	d := f.awaitDump(t, m, user, f.create(t, m, crashing(ns, "bytes", "/crash", "-m", "32", "-t", "3")))
	got := f.download(t, user, d)
	var seen string
	await(t, func(context.Context) error {
		b, err := os.ReadFile(filepath.Join(sums, fmt.Sprint(d.Spec.Process.HostPID)))
		seen = string(b)
		return err
	})
	if want := fmt.Sprintf("%s %d", got.sha256, d.Status.Size); seen != want {
		t.Errorf("the kernel sent %s, downloaded %s", seen, want)
	}
}
