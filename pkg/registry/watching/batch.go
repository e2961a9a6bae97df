// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package watching

import (
	"sync"
	"time"
)

// Batch is what a poll has found. All who watch share it.
type Batch struct {
	// Changes in the order in which the store has them. Empty where only the time went on.
	Changes []Change
	// ResourceVersion is that of a list at the time of the poll.
	ResourceVersion string

	end time.Time // of the poll: whatever changed before it has been found

	mu     sync.Mutex
	shared any
}

// Shared computes what several need of the batch, once. Errors are not kept. All who call it for the batches of a View must compute the same type from it.
func (b *Batch) Shared(compute func() (any, error)) (any, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shared == nil {
		shared, err := compute()
		if err != nil {
			return nil, err
		}
		b.shared = shared
	}
	return b.shared, nil
}

func (b *Batch) bytes() (n int64) {
	for _, c := range b.Changes {
		n += c.size
	}
	return n
}

// history is what was found last. It goes back without a gap to its floor.
type history struct {
	floor   time.Time
	batches []*Batch
	changes int
	bytes   int64 // of the records, as they are in the bucket
}

// maxHistory and maxBytes bound the changes in a history. Each may keep a record from being forgotten.
const (
	maxHistory = 2000
	maxBytes   = 16 << 20
)

// restart forgets everything before t.
func (h *history) restart(t time.Time) { *h = history{floor: t} }

func (h *history) add(b *Batch) {
	h.batches = append(h.batches, b)
	h.changes += len(b.Changes)
	h.bytes += b.bytes()
	for h.changes > maxHistory || h.bytes > maxBytes {
		h.floor = h.batches[0].end
		h.changes -= len(h.batches[0].Changes)
		h.bytes -= h.batches[0].bytes()
		h.batches[0] = nil
		h.batches = h.batches[1:]
	}
}

// since gives what was found by polls that ended at t or later.
func (h *history) since(t time.Time) []*Batch {
	i := len(h.batches)
	for i > 0 && !h.batches[i-1].end.Before(t) {
		i--
	}
	return h.batches[i:len(h.batches):len(h.batches)]
}
