// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"slices"
	"sync"
)

// minPiece is the least that is worth a request of its own, in bytes.
const minPiece = 256 << 10

// ledger knows which bytes of the object have arrived and which are on their way. Safe for concurrent use.
type ledger struct {
	size    int64
	workers int64

	mu      sync.Mutex
	done    spans
	taken   spans
	note    func(add bool, s span) error // is told of every change of done
	changed chan struct{}                // closed at the next change
}

func newLedger(size int64, workers int, done spans, note func(bool, span) error) *ledger {
	return &ledger{size: size, workers: int64(workers), done: done, note: note, changed: make(chan struct{})}
}

func (l *ledger) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// take gives the first piece within s of at most n bytes that nobody has taken yet; none where all of s has arrived. It waits while all that is left is on its way
// to somebody else, who may fail. Towards the end pieces get smaller, so that the workers end together.
func (l *ledger) take(ctx context.Context, s span, n int64) (span, error) {
	for {
		l.mu.Lock()
		if l.done.reach(s.from) >= s.to {
			l.mu.Unlock()
			return span{}, nil
		}
		busy := slices.Clone(l.done)
		for _, t := range l.taken {
			busy = busy.add(t)
		}
		left := l.size - busy.sum()
		piece := busy.gap(s, max(min(n, left/l.workers), minPiece))
		if piece.len() > 0 {
			l.taken = l.taken.add(piece)
			l.mu.Unlock()
			return piece, nil
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return span{}, context.Cause(ctx)
		}
	}
}

// arrived says that the bytes are in the file.
func (l *ledger) arrived(s span) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done = l.done.add(s)
	l.wake()
	return l.note(true, s)
}

// release gives back what was taken, arrived or not.
func (l *ledger) release(s span) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = l.taken.remove(s)
	l.wake()
}

// forget says that the bytes are not what they should be, and are to be fetched again.
func (l *ledger) forget(s span) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done = l.done.remove(s)
	l.wake()
	return l.note(false, s)
}

// again waits, once all bytes have arrived, until some of them turn out to be bad.
func (l *ledger) again(ctx context.Context) error {
	for {
		l.mu.Lock()
		left, changed := l.size-l.done.sum(), l.changed
		l.mu.Unlock()
		if left > 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// left is the number of bytes that have not arrived.
func (l *ledger) left() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size - l.done.sum()
}

// wait waits until the byte at from has arrived, and tells how far the bytes behind it go.
func (l *ledger) wait(ctx context.Context, from int64) (int64, error) {
	for {
		l.mu.Lock()
		to, changed := l.done.reach(from), l.changed
		l.mu.Unlock()
		if to > from {
			return to, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}
