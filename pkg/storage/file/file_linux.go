// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// nonBlock keeps an open from waiting for the writer of a FIFO.
const nonBlock = syscall.O_NONBLOCK

// etag tells a file from every other that had or will have its name. A file is never written to after it got its
// name, so a new one has another inode while the old one lives, and another time afterwards.
func etag(info fs.FileInfo) string {
	var inode uint64
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = sys.Ino
	}
	return fmt.Sprintf("%x-%x-%x", inode, info.ModTime().UnixNano(), info.Size())
}

// dropPages makes the next read of the file, all of which has been synced, come from the file system again where it can
// (posix_fadvise(2): advice, no promise; tmpfs keeps its pages).
func dropPages(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }
