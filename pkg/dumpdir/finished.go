// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package dumpdir

import (
	"time"
)

const (
	// poll is how soon a file that is not finished is looked at again, at first; no event tells that its writer has closed it.
	poll = 250 * time.Millisecond
	// doubt is how many times longer than usual a file must rest of which it cannot be told whether it has a writer.
	doubt = 6
	// maxPatience is how long a file must rest that has a writer, and one that keeps changing while it is uploaded.
	maxPatience = time.Hour
)

// observation is what is known of a file that may not be finished.
type observation struct {
	state state
	// complete is true of a file that is as long as its own ELF header promises. Of a compressed file it cannot be told.
	complete bool
	writer   writer
	// since is when the file was seen in this state first.
	since time.Time
	// aborted is how many uploads were aborted because the file changed.
	aborted int
}

// resting is how long the file has been as it is. The change time is the kernel's, so a file that lay
// there before we came need not wait again.
func (o observation) resting(now time.Time) time.Duration {
	since := o.since
	if changed := o.state.changed(); changed.Before(since) {
		since = changed
	}
	return now.Sub(since)
}

// finishedIn tells when the file is finished if nothing happens to it: 0 or less is now.
//
//   - A file that is as long as its ELF header promises, and that nobody has open for writing, is finished: cores are written
//     front to back.
//   - A file that nobody has open for writing but that is shorter, or that is compressed, is finished after resting for settle.
//   - A file that somebody has open must rest for an hour: a writer that is slow shall have its time, and a tenant that holds a
//     file open for ever shall not keep it here for ever.
//   - Where it cannot be told whether somebody has it open (no leases, no CAP_LEASE), a file that is not complete must
//     rest six times as long as settle.
//   - Every upload that was aborted because the file changed doubles the time.
func (o observation) finishedIn(now time.Time, settle time.Duration) time.Duration {
	patience := settle
	switch {
	case o.writer == writerOpen:
		patience = max(patience, maxPatience)
	case o.writer == writerUnknown && !o.complete:
		patience *= doubt
	case o.complete && o.aborted == 0:
		return 0
	}
	return min(patience<<min(o.aborted, 16), max(maxPatience, patience)) - o.resting(now)
}
