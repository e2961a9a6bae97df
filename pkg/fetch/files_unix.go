// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package fetch

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// private tells whether a file is the caller's, has no other name, and is closed to everybody else.
func private(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid() && st.Nlink == 1 && info.Mode().Perm()&0o077 == 0
}

// lock takes the file for this process, until it ends or closes the file. It does not wait.
func lock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrBusy
	}
	return err
}

func freeBytes(f *os.File) (n int64, ok bool) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Bsize <= 0 {
		return 0, false
	}
	return int64(min(uint64(st.Bavail), 1<<62/uint64(st.Bsize))) * int64(st.Bsize), true
}

// used is how many bytes of disk a file takes.
func used(f *os.File) int64 {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

func noSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
