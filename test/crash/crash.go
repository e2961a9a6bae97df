// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package crash makes real programs crash, so that the real kernel writes their cores where a test or the demo wants them.
package crash

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// patternFile is the kernel's one setting for all processes outside of their own control; see core(5).
const patternFile = "/proc/sys/kernel/core_pattern"

// limitFile is how many helpers the kernel runs at a time, and whether it waits for them; see core(5).
const limitFile = "/proc/sys/kernel/core_pipe_limit"

// lockFile makes sure that one program at a time changes the pattern: it is one per kernel.
const lockFile = "/tmp/core_pattern.lock"

// kernelDefault is put back in place of a pattern that an earlier run of ours left behind.
const kernelDefault = "core"

// marker is in every pattern that this package sets, to know it again.
const marker = "coredump-test-"

// WithPattern runs f while core_pattern is set so that a process that crashes leaves its core at dir/name, where name is a template of core(5). See
// WithSettings for the rest. dir must contain "coredump-test-".
func WithPattern(dir, name string, f func() error) (err error) {
	pattern := filepath.Join(dir, name)
	if !strings.Contains(pattern, marker) || len(pattern) > maxPattern {
		return fmt.Errorf("pattern %q: must contain %q and have at most %d bytes (core(5))", pattern, marker, maxPattern)
	}
	return WithSettings(func() error {
		if err := os.WriteFile(patternFile, []byte(pattern), 0); err != nil {
			return err
		}
		return f()
	})
}

// WithSettings runs f, which may set core_pattern and core_pipe_limit. Before it returns they are as they were, and if this process dies, however that happens, a
// watchdog process puts them back. It waits for others who use the same lock. A path in the pattern must contain "coredump-test-".
func WithSettings(f func() error) (err error) {
	lock, err := os.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		fmt.Fprintln(os.Stderr, "waiting for "+lockFile)
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", lockFile, err)
	}
	restore, err := watchdog(lock)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore()) }()
	return f()
}

// maxPattern is what fits into core_pattern, in bytes.
const maxPattern = 127

// watchdog starts a process that waits for the end of its standard input, which comes when restore is called or
// when this process is gone, and then puts the settings back. It shares the lock, so nobody else sets
// them before that.
func watchdog(lock *os.File) (restore func() error, err error) {
	pattern, err := os.ReadFile(patternFile)
	if err != nil {
		return nil, err
	}
	limit, err := os.ReadFile(limitFile)
	if err != nil {
		return nil, err
	}
	before := strings.TrimSuffix(string(pattern), "\n")
	if strings.Contains(before, marker) {
		before = kernelDefault
	}
	dog := exec.Command("sh", "-c", `cat >/dev/null; printf %s "$BEFORE" >`+patternFile+`; printf %s "$LIMIT" >`+limitFile)
	dog.Env = append(os.Environ(), "BEFORE="+before, "LIMIT="+strings.TrimSpace(string(limit)))
	dog.ExtraFiles = []*os.File{lock}
	dog.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // out of reach of a terminal's Ctrl-C
	in, err := dog.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := dog.Start(); err != nil {
		return nil, err
	}
	return func() error {
		in.(io.Closer).Close()
		return dog.Wait()
	}, nil
}

// Build compiles the program that crashes and returns its path.
func Build(repo, dir string) (string, error) {
	program := filepath.Join(dir, "crasher")
	cmd := exec.Command("go", "build", "-o", program, "./test/crash/crasher")
	cmd.Dir = repo
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build crasher: %w\n%s", err, out)
	}
	return program, nil
}

// Run runs a program that is expected to crash, with no limit on the size of its core. It returns the
// signal that ended it.
func Run(program string, args ...string) (syscall.Signal, error) {
	cmd := exec.Command("sh", append([]string{"-c", `ulimit -c unlimited && exec "$0" "$@"`, program}, args...)...)
	cmd.Dir = filepath.Dir(program)
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) {
		return 0, fmt.Errorf("%s ended with %v: was to crash", program, err)
	}
	status := exit.Sys().(syscall.WaitStatus)
	if !status.Signaled() || !status.CoreDump() {
		return 0, fmt.Errorf("%s ended with %v: was to dump core", program, exit)
	}
	return status.Signal(), nil
}
