// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package kerneltest lets tests have real crashes delivered by the real kernel. Its settings are one for the whole machine: tests that
// change them exclude each other, also between packages, and leave them as they were.
package kerneltest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture/initns"
)

const sysctl = "/proc/sys/"

// Have takes the kernel's settings for a test, until it ends, and sets core_pattern (where it is not empty) and core_pipe_limit. The test is skipped
// where that cannot be done: not root, or /proc/sys read-only.
func Have(t testing.TB, pattern, pipeLimit string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: needs root to tell the kernel where crashes go")
	}
	if unix.Access(sysctl+"kernel/core_pattern", unix.W_OK) != nil {
		t.Skip("NOT TESTED: kernel.core_pattern cannot be written here")
	}
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "core_pattern.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	take(t, lock)
	for _, name := range []string{"kernel/core_pipe_limit", "fs/suid_dumpable", "kernel/core_uses_pid", "kernel/core_pattern"} {
		before := Get(t, name)
		t.Cleanup(func() { Set(t, name, before) })
	}
	Set(t, "kernel/core_pipe_limit", pipeLimit)
	if pattern != "" {
		Set(t, "kernel/core_pattern", pattern)
	}
}

// spare is what a test has to have left when it gets the lock.
const spare = 30 * time.Second

// take waits for the lock as long as the test may take, and fails in words rather than by a timeout: its holder may be the one who waits for this test.
func take(t testing.TB, lock *os.File) {
	t.Helper()
	var late <-chan time.Time // never, without a deadline
	if t, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if end, bounded := t.Deadline(); bounded {
			late = time.After(time.Until(end) - spare)
		}
	}
	taken := make(chan error, 1)
	go func() { // waits in the order in which all came, and ends with this process at the latest
		for {
			if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != unix.EINTR {
				taken <- err
				return
			}
		}
	}()
	select {
	case err := <-taken:
		if err != nil {
			t.Fatal(err)
		}
	case <-late:
		t.Fatalf("somebody else has the kernel's settings, see %s in /proc/locks. Tests take this lock themselves: do not run them while you hold it", lock.Name())
	}
}

// Sockets skips a test where the kernel cannot deliver to sockets, or not from here.
func Sockets(t testing.TB) {
	t.Helper()
	modes, err := os.ReadFile(sysctl + "kernel/core_modes")
	if err != nil || !strings.Contains(string(modes), "socket") {
		t.Skip("NOT TESTED: this kernel delivers no dumps to sockets")
	}
	if same, err := initns.Same(initns.Dir()); err != nil || !same {
		t.Skip("NOT TESTED: not in the initial mount namespace")
	}
}

// Set sets a setting, a path below /proc/sys.
func Set(t testing.TB, name, value string) {
	t.Helper()
	if err := os.WriteFile(sysctl+name, []byte(value+"\n"), 0); err != nil {
		t.Fatal(err)
	}
}

// Get reads it.
func Get(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(sysctl + name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(b), "\n")
}

// Dir is a new directory with a short path, for there is room for 127 bytes in core_pattern. It is open to all.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "crash")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Crash runs a shell script that ends by a signal with a core, in the directory, and tells whether the kernel says that it dumped one. The
// script kills its own shell: kill -SEGV $$.
func Crash(t testing.TB, cmd *exec.Cmd) (dumped bool) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if err == nil || !ok || !status.Signaled() {
		t.Fatalf("%v did not crash: %v %s", cmd.Args, err, out)
	}
	return status.CoreDump()
}

// Shell is a command that runs a shell script.
func Shell(dir, script string) *exec.Cmd {
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin"}
	return cmd
}

// Die is the script of a process that crashes at once, whatever its limits were.
const Die = "ulimit -c unlimited; kill -SEGV $$"
