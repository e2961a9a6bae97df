// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// letGo lets a process go once, whoever comes first: the end of its stream, or the watchdog.
type letGo struct {
	done sync.Once
	held atomic.Int64
}

func (l *letGo) once(stream io.Closer, started time.Time) {
	l.done.Do(func() {
		_ = stream.Close() // there is nobody to tell: the kernel's side has no use for it
		l.held.Store(time.Since(started).Microseconds())
	})
}

func (l *letGo) micros() int64 { return l.held.Load() }
