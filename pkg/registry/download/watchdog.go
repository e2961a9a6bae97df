// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package download

import (
	"sync"
	"sync/atomic"
	"time"
)

// watchdog bites where a step takes longer than its patience, and no more than a moment later. A step costs it nothing but two stores: it looks by itself, now and then. Steps
// are one at a time; stop may be called by another goroutine.
type watchdog struct {
	patience time.Duration
	began    atomic.Int64 // when the step that runs did, as nanoseconds after start; 0 where none does
	start    time.Time

	mu      sync.Mutex
	bite    func() // nil once it has bitten, or has been stopped
	looking *time.Timer
}

// watch makes a watchdog. It runs until it is stopped. bite must not wait for stop.
func watch(patience time.Duration, bite func()) *watchdog {
	w := &watchdog{patience: patience, bite: bite, start: time.Now()}
	w.mu.Lock() // look waits until looking is set
	defer w.mu.Unlock()
	w.looking = time.AfterFunc(patience, w.look)
	return w
}

func (w *watchdog) begin(now time.Time) { w.began.Store(max(1, int64(now.Sub(w.start)))) }

func (w *watchdog) end() { w.began.Store(0) }

func (w *watchdog) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bite == nil {
		return
	}
	left := w.patience / 2
	if began := w.began.Load(); began != 0 {
		left = time.Duration(began) + w.patience - time.Since(w.start)
	}
	if left > 0 {
		w.looking.Reset(min(left, w.patience/2))
		return
	}
	w.bite()
	w.bite = nil
}

// stop returns when nothing can be bitten any more.
func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bite = nil
	w.looking.Stop()
}
