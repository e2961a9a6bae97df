// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"sync"
	"sync/atomic"
)

// Meter tells how far a download is. All methods are safe for concurrent use, and those of a nil Meter do nothing.
type Meter struct {
	total, had, fetched, written atomic.Int64

	mu  sync.Mutex
	err error
}

// Total is the number of bytes that are to be fetched, 0 before that is known; Had how many of them a former call had fetched; Fetched
// how many this one has.
func (m *Meter) Total() int64   { return m.total.Load() }
func (m *Meter) Had() int64     { return m.had.Load() }
func (m *Meter) Fetched() int64 { return m.fetched.Load() }

// Written is how many bytes of the core are decompressed and checked.
func (m *Meter) Written() int64 { return m.written.Load() }

// Trouble is why bytes are asked for again, once; nil where nothing happened since the last call.
func (m *Meter) Trouble() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.err
	m.err = nil
	return err
}

func (m *Meter) start(total, had int64) {
	if m != nil {
		m.total.Store(total)
		m.had.Store(had)
	}
}

func (m *Meter) add(n int64) {
	if m != nil {
		m.fetched.Add(n)
	}
}

func (m *Meter) wrote(n int64) {
	if m != nil {
		m.written.Store(n)
	}
}

func (m *Meter) trouble(err error) {
	if m != nil {
		m.mu.Lock()
		m.err = err
		m.mu.Unlock()
	}
}
