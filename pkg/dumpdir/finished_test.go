// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package dumpdir

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWhenAFileIsFinished(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	const settle = 10 * time.Second
	for name, c := range map[string]struct {
		o    observation
		want time.Duration
	}{
		"complete and nobody writes":                 {observation{complete: true}, 0},
		"complete, but it cannot be told who has it": {observation{complete: true, writer: writerUnknown}, 0},
		"complete and somebody has it":               {observation{complete: true, writer: writerOpen}, time.Hour},
		"shorter than promised":                      {observation{}, 10 * time.Second},
		"shorter, and it cannot be told who has it":  {observation{writer: writerUnknown}, 60 * time.Second},
		"shorter, and somebody has it":               {observation{writer: writerOpen}, time.Hour},
		"complete, but it changed under an upload":   {observation{complete: true, aborted: 1}, 20 * time.Second},
		"it changed under many uploads":              {observation{complete: true, aborted: 1000}, time.Hour},
	} {
		for _, resting := range []time.Duration{0, 3 * time.Second, 2 * time.Hour} {
			o := c.o
			o.since = now.Add(-resting)
			o.state.ctime = unix.NsecToTimespec(now.UnixNano())
			if got, want := o.finishedIn(now, settle), c.want-resting; got != want && !(c.want == 0 && got == 0) {
				t.Errorf("%s, %v later: in %v, want %v", name, resting, got, want)
			}
			// Seen just now, but the kernel says how long it has been lying there.
			o.since, o.state.ctime = now, unix.NsecToTimespec(now.Add(-resting).UnixNano())
			if got, want := o.finishedIn(now, settle), c.want-resting; got != want && !(c.want == 0 && got == 0) {
				t.Errorf("%s, there for %v: in %v, want %v", name, resting, got, want)
			}
		}
	}
}

func TestW7_AChangeTimeInTheFutureDoesNotCount(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	o := observation{since: now.Add(-time.Minute)}
	o.state.ctime = unix.NsecToTimespec(now.Add(time.Hour).UnixNano())
	if got := o.finishedIn(now, 10*time.Second); got > 0 {
		t.Errorf("still %v to wait", got)
	}
}
