// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package initns does things in the namespaces of the host's first process, from inside a container: only from the initial mount
// namespace may the kernel be told of a coredump socket, and only there do the paths of the host's own programs mean what they say.
package initns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture/thread"
)

// Dir is where the initial namespaces are seen with hostPID: true: those of process 1, or of 2 where that is the kernel's kthreadd and 1 lets nobody look.
func Dir() string {
	const first, kthreadd = "/proc/1/ns", "/proc/2/ns"
	if _, err := os.Stat(first + "/mnt"); err == nil {
		return first
	}
	if comm, err := os.ReadFile("/proc/2/comm"); err == nil && string(comm) == "kthreadd\n" {
		return kthreadd
	}
	return first
}

// others are joined where that is allowed; what is done here works without them, though not as it would when the kernel started it.
var others = []struct {
	name string
	kind int
}{{"net", unix.CLONE_NEWNET}, {"uts", unix.CLONE_NEWUTS}, {"ipc", unix.CLONE_NEWIPC}, {"cgroup", unix.CLONE_NEWCGROUP}}

// Do calls f on an operating system thread of its own that has joined the mount namespace in dir (see Dir), with its root and
// working directory, and gives back what f returns. It needs CAP_SYS_ADMIN and CAP_SYS_CHROOT unless that is the caller's namespace already. f must not
// start goroutines that rely on the namespace; a process that it starts is in it. The thread ends with f.
func Do(dir string, f func() error) error { return do(dir, false, f) }

// DoAll is Do with the network, UTS, IPC and cgroup namespaces joined as well, each where that is allowed.
func DoAll(dir string, f func() error) error { return do(dir, true, f) }

func do(dir string, all bool, f func() error) (err error) {
	thread.Run(func() {
		if err = join(dir, all); err == nil {
			err = f()
		}
	})
	return err
}

func join(dir string, all bool) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare the file system attributes of a thread: %w", err)
	}
	if all {
		for _, ns := range others {
			if fd, err := os.Open(filepath.Join(dir, ns.name)); err == nil {
				_ = unix.Setns(int(fd.Fd()), ns.kind)
				fd.Close()
			}
		}
	}
	mnt := filepath.Join(dir, "mnt")
	same, err := Same(dir)
	if err != nil {
		return err
	}
	if !same {
		ns, err := os.Open(mnt)
		if err != nil {
			return fmt.Errorf("open the host's mount namespace: %w", err)
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("join the host's mount namespace %s (needs CAP_SYS_ADMIN and CAP_SYS_CHROOT): %w", mnt, err)
		}
	}
	return unix.Chdir("/")
}

// Same says whether the caller is in the mount namespace in dir already.
func Same(dir string) (bool, error) {
	theirs, err := os.Stat(filepath.Join(dir, "mnt"))
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			return false, fmt.Errorf("look for the host's mount namespace (needs hostPID: true and CAP_SYS_PTRACE): %w", err)
		}
		return false, fmt.Errorf("look for the host's mount namespace: %w", err)
	}
	ours, err := os.Stat("/proc/thread-self/ns/mnt")
	if err != nil {
		return false, fmt.Errorf("look at the own mount namespace: %w", err)
	}
	return os.SameFile(theirs, ours), nil
}
