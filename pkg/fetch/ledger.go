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

// change changes it, and wakes those who wait.
func (l *ledger) change(how func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	how()
	close(l.changed)
	l.changed = make(chan struct{})
}

// until waits until it is so. It asks, holding mu, after every change.
func (l *ledger) until(ctx context.Context, so func() bool) error {
	for {
		l.mu.Lock()
		ok, changed := so(), l.changed
		l.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// take gives the first piece within s of at most n bytes that nobody has taken yet; none where all of s has arrived. It waits while all that is left is on its way
// to somebody else, who may fail. Towards the end pieces get smaller, so that the workers end together.
func (l *ledger) take(ctx context.Context, s span, n int64) (piece span, err error) {
	err = l.until(ctx, func() bool {
		if l.done.reach(s.from) >= s.to {
			return true
		}
		busy := slices.Clone(l.done)
		for _, t := range l.taken {
			busy = busy.add(t)
		}
		left := l.size - busy.sum()
		got := busy.gap(s, max(min(n, left/l.workers), minPiece))
		if got.len() == 0 {
			return false
		}
		piece, l.taken = got, l.taken.add(got)
		return true
	})
	return piece, err
}

// arrived says that the bytes are in the file.
func (l *ledger) arrived(s span) (err error) {
	l.change(func() {
		l.done = l.done.add(s)
		err = l.note(true, s)
	})
	return err
}

// release gives back what was taken, arrived or not.
func (l *ledger) release(s span) {
	l.change(func() { l.taken = l.taken.remove(s) })
}

// forget says that the bytes are not what they should be, and are to be fetched again.
func (l *ledger) forget(s span) (err error) {
	l.change(func() {
		l.done = l.done.remove(s)
		err = l.note(false, s)
	})
	return err
}

// again waits, once all bytes have arrived, until some of them turn out to be bad.
func (l *ledger) again(ctx context.Context) error {
	return l.until(ctx, func() bool { return l.done.sum() < l.size })
}

// left is the number of bytes that have not arrived.
func (l *ledger) left() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size - l.done.sum()
}

// wait waits until the byte at from has arrived, and tells how far the bytes behind it go.
func (l *ledger) wait(ctx context.Context, from int64) (to int64, err error) {
	err = l.until(ctx, func() bool {
		to = l.done.reach(from)
		return to > from
	})
	return to, err
}
