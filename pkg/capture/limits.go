// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"time"

	"example.io/coredump/pkg/spool"
)

// Limits bound what a crash may cost the node.
type Limits struct {
	// MaxSize is the largest core that is taken whole, in bytes, by the size that its own header promises. Of a larger one the first CutSize bytes
	// are kept, and always its headers and notes.
	MaxSize, CutSize int64
	// Spool is what the spool may take of its file system.
	Spool spool.Limits
	// Deadline is how long a crashed process may be held in all, StallTimeout how long without a byte of its core.
	Deadline, StallTimeout time.Duration
}

// maxSize is the limit that holds for one dump: the verdict can only lower it.
func (l Limits) maxSize(v Verdict) int64 {
	if v.MaxSize > 0 {
		return min(v.MaxSize, l.MaxSize)
	}
	return l.MaxSize
}
