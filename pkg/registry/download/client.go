// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package download

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// chunk is how many bytes a client has to take within the stall timeout.
const chunk = 256 << 10

var (
	errStalled    = errors.New("the client took nothing for too long")
	errClientGone = errors.New("the client is gone")
	errCut        = errors.New("the answer has been cut")
)

// client is the receiving end of a download. A client may be slow, but not stand still, or it would hold its slot for ever: a watchdog lets the
// deadline of the connection pass for it. A deadline that is set anew for each chunk would do the same, but costs HTTP/2 two wakeups a chunk. As long as nothing is being
// sent there is no deadline: the store may take its time.
// Write may be called from another goroutine than the other methods.
type client struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	stall time.Duration

	watchdog *watchdog
	sent     atomic.Int64 // bytes
	isCut    atomic.Bool
	failed   atomic.Pointer[error] // how writing failed first
}

// newClient fails where the connection has no deadlines: it would not be safe from clients that stand still. The caller releases the client before the handler returns.
func newClient(w http.ResponseWriter, stall time.Duration) (*client, error) {
	c := &client{w: w, rc: http.NewResponseController(w), stall: stall}
	if err := c.rc.SetWriteDeadline(time.Time{}); err != nil {
		return nil, err
	}
	c.watchdog = watch(stall, func() { _ = c.rc.SetWriteDeadline(time.Unix(1, 0)) })
	return c, nil
}

// release ends the watchdog. The connection may have another request after that, unless sending failed: then a deadline that has passed stays, so that nothing waits for the
// client any more. The watchdog may have bitten just when a step came to its end, well after all.
func (c *client) release() {
	c.watchdog.stop()
	if c.failure() == nil {
		_ = c.rc.SetWriteDeadline(time.Time{})
	}
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
	return n, err
}

// finish sends what net/http still holds back.
func (c *client) finish() error { return c.within(c.rc.Flush) }

// within runs what sends to the client, under the eyes of the watchdog.
func (c *client) within(send func() error) error {
	begin := time.Now()
	c.watchdog.begin(begin)
	err := send()
	c.watchdog.end()
	return c.explain(err, time.Since(begin))
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
