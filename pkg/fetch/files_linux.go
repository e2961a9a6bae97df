// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeOut has the kernel begin to write n bytes of a file to the disk, see sync_file_range(2), so that the sync in the end does not wait for all of them.
// Where it cannot, that takes longer.
func writeOut(f *os.File, offset, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, n, unix.SYNC_FILE_RANGE_WRITE)
}
