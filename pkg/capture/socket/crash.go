// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// Crash is a process that crashed and that the kernel asks us about. Until it is answered the process is held.
// What the kernel does not tell by a socket (thread, name, in older kernels also the signal) is in /proc/PID, and in the notes of the core.
//
// Its methods are called by one goroutine, but for Close.
type Crash struct {
	// PID is its id in our PID namespace, which is the host's.
	PID int
	// PIDFD refers to it for as long as the handler runs; the server closes it.
	PIDFD *os.File
	// UID and GID are its real ids in our user namespace.
	UID, GID int64
	// Signal is the number of the signal, 0 where this kernel does not tell.
	Signal int32
	// Dumpable is 1, or 2 for a process that root alone may look at; see PR_SET_DUMPABLE in prctl(2).
	Dumpable int32
	// Connected is when the kernel asked: the time of the crash.
	Connected time.Time

	conn     *net.UnixConn
	offer    uint64
	answered bool
	timeout  time.Duration
	closing  sync.Once
	closed   error
}

// errAnswered is returned by a second answer.
var errAnswered = errors.New("the kernel has its answer already")

// Reject tells the kernel that no core is wanted; the process goes on to its end at once.
func (c *Crash) Reject() error {
	if c.answered {
		return errAnswered
	}
	return errors.Join(c.answer(bitReject), c.Close())
}

// Accept asks the kernel for the core. What is then read from the crash is the core; the process is held until Close, where the kernel can do that.
func (c *Crash) Accept() error {
	if c.answered {
		return errAnswered
	}
	if c.offer&bitKernel == 0 {
		return fmt.Errorf("the kernel offers no core (%#x)", c.offer)
	}
	return c.answer(bitKernel | c.offer&bitWait)
}

func (c *Crash) answer(mask uint64) error {
	c.answered = true
	if err := c.conn.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return fmt.Errorf("answer the kernel's request: %w", err)
	}
	if err := acknowledge(c.conn, mask); err != nil {
		return err
	}
	return c.conn.SetDeadline(time.Time{})
}

// Read reads the core; see Accept.
func (c *Crash) Read(b []byte) (int, error) { return c.conn.Read(b) }

// SetReadDeadline is that of net.Conn.
func (c *Crash) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// Close lets the process go. It may be called at any time, also while Read waits, by any goroutine, and more than once.
func (c *Crash) Close() error {
	c.closing.Do(func() { c.closed = c.conn.Close() })
	return c.closed
}
