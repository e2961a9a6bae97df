// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"example.io/coredump/test/cluster"
	"example.io/coredump/test/crash"
)

// TestARealCoreOfTheRealKernel goes the whole way: a program crashes, the kernel writes, gdb reads what kubectl fetched.
func TestARealCoreOfTheRealKernel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("setting core_pattern needs root")
	}
	f := &shared
	ns := f.namespace(t, "kernel")
	alice := f.user(t, "kernel-alice", ns, "coredump-downloader")
	work := t.TempDir()
	program, err := crash.Build(f.repo, work)
	if err != nil {
		t.Fatal(err)
	}
	into := filepath.Join(f.handler.Dir, ns, "web-0", "app")
	if err := os.MkdirAll(into, 0o755); err != nil {
		t.Fatal(err)
	}
	// The node handler must not take the core away before it has been read.
	if err := f.handler.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	resume := func() { _ = f.handler.Signal(syscall.SIGCONT) }
	defer resume()
	err = crash.WithPattern(into, "core-%e-%t-%p-%s", func() error {
		_, err := crash.Run(program, "8")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cores, _ := filepath.Glob(filepath.Join(into, "core-crasher-*"))
	if len(cores) != 1 {
		t.Fatalf("the kernel wrote %v, want one core", cores)
	}
	want := fileSum(t, cores[0])
	resume()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = cluster.Poll(ctx, func(ctx context.Context) error {
		list, err := f.list(ctx, alice, "-n", ns)
		if err == nil && len(list.Items) != 1 {
			err = os.ErrNotExist
		}
		return err
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, f.handler.Tail())
	}
	gone(t, cores[0])
	archive, err := f.kubectl(t, alice, "get", "--raw", dumpPath(ns, "web-0", "?container=app"))
	if err != nil {
		t.Fatal(err)
	}
	if got := values(untar(t, archive, "-z")); !slices.Equal(got, []string{want}) {
		t.Fatalf("SHA-256 %v, want %s", got, want)
	}
	shell(t, work, archive, "tar -xzf -")
	out := shell(t, work, "", "gdb -nx -batch -ex bt "+program+" app/core-crasher-*-11 2>&1")
	contains(t, out, "main.checkout", "main.main")

	record := shell(t, work, "", "cat app/core-crasher-*.json")
	contains(t, record, `"executable": "crasher"`, `"signalName": "SIGSEGV"`, `"identity": "claimed"`, `"clusterName": "test"`, want)
}

func fileSum(t *testing.T, name string) string {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func TestTheNodeHandlerTellsWhatItDid(t *testing.T) {
	f := &shared
	ns := f.namespace(t, "tells")
	f.dump(t, core{namespace: ns, pod: "web-0", container: "app", seed: 1})
	if err := logged(f.handler.Process, "[coredump]"); err != nil {
		t.Errorf("no log line with the keyword: %v", err)
	}
	resp, err := http.Get(f.handler.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	for _, metric := range []string{"dumps_total", "bytes_total", "failures_total", "queue_length", "oldest_waiting_seconds", "upload_seconds"} {
		if !strings.Contains(string(body), "coredump_nodehandler_"+metric) {
			t.Errorf("no metric coredump_nodehandler_%s", metric)
		}
	}
}
