// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/tarball"
)

// chunk is how many bytes a client has to take within the stall timeout.
const chunk = 32 << 10

var (
	errStalled    = errors.New("the client took nothing for too long")
	errClientGone = errors.New("the client is gone")
	errCut        = errors.New("the answer has been cut")
)

// client is the receiving end of a download. Each chunk has a deadline of its own: a client may be slow, but not stand still, or
// it would hold its slot for ever. Write may be called from another goroutine than the other methods.
type client struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	stall time.Duration

	sent   atomic.Int64 // bytes
	isCut  atomic.Bool
	failed atomic.Pointer[error] // how writing failed first
}

func (c *client) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		if c.isCut.Load() {
			return n, errCut
		}
		var m int
		err = c.within(func() (err error) {
			m, err = c.w.Write(p[n:min(n+chunk, len(p))])
			return err
		})
		n += m
		c.sent.Add(int64(m))
	}
	return n, c.lift(err)
}

// finish sends what net/http still holds back.
func (c *client) finish() error {
	return c.lift(c.within(c.rc.Flush))
}

// within runs what sends to the client, under the deadline.
func (c *client) within(send func() error) error {
	begin := time.Now()
	err := c.rc.SetWriteDeadline(begin.Add(c.stall))
	if err == nil {
		err = send()
	}
	return c.explain(err, time.Since(begin))
}

// lift takes the deadline away, unless sending failed, as long as nothing is being sent: the store may take its time. In HTTP/2 a deadline that passes resets the
// stream at once, in HTTP/1.1 it would hit the next request of the connection.
func (c *client) lift(err error) error {
	if err != nil {
		return err
	}
	return c.rc.SetWriteDeadline(time.Time{})
}

// explain tells a client that stands still from one that went away. HTTP/2 has the same error for both.
func (c *client) explain(err error, took time.Duration) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded), took >= c.stall:
		err = fmt.Errorf("%w: %w", errStalled, err)
	default:
		err = fmt.Errorf("%w: %w", errClientGone, err)
	}
	c.failed.CompareAndSwap(nil, &err)
	return err
}

// failure is how writing failed first, or nil.
func (c *client) failure() error {
	if p := c.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// cut makes what is written from now on fail.
func (c *client) cut() { c.isCut.Store(true) }

// source reads an archive and gives up on a store that gives nothing for too long.
type source struct {
	archive  io.ReadCloser
	cancel   context.CancelCauseFunc
	ctx      context.Context
	watchdog *time.Timer
	stall    time.Duration
}

// newSource reads length bytes of the archive from offset on, all of it where length is negative.
func newSource(ctx context.Context, a *tarball.Archive, offset, length int64, stall time.Duration) (*source, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &source{ctx: ctx, cancel: cancel, stall: stall}
	if length < 0 {
		length = a.Size()
	}
	var err error
	if s.archive, err = a.OpenRange(ctx, offset, length); err != nil {
		cancel(nil)
		return nil, err
	}
	s.watchdog = time.AfterFunc(stall, func() {
		cancel(fmt.Errorf("%w: it gave nothing for %s", storage.ErrUnavailable, stall))
	})
	s.watchdog.Stop()
	return s, nil
}

func (s *source) Read(p []byte) (int, error) {
	s.watchdog.Reset(s.stall)
	n, err := s.archive.Read(p)
	s.watchdog.Stop()
	if err != nil && err != io.EOF {
		if cause := context.Cause(s.ctx); cause != nil {
			err = cause // what the store says of a cancelled request does not matter
		}
	}
	return n, err
}

func (s *source) Close() error {
	s.watchdog.Stop()
	s.cancel(nil)
	return s.archive.Close()
}
