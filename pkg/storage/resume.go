// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// resumePauses are how long a reader waits before each attempt to go on, half of it at least, and by their number how many attempts it makes until it
// has another byte. With what a driver tries by itself they outlast a load balancer that moves connections and a store that restarts at once. More is
// not wanted: clients can go on by themselves, and a slot is not held for nothing.
var resumePauses = [...]time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond}

// resuming reads the bytes from next to end of an object. Stores cut connections that were idle for a while, as they are when a client is slow,
// and some end an answer early and say nothing. So it knows how long the object is, and opens it again at the place where it broke off.
type resuming struct {
	ctx       context.Context
	bucket    Bucket
	key, etag string
	next, end int64
	body      io.ReadCloser // nil where it broke off
	failures  int           // since the last byte
	err       error         // io.EOF, or why it failed for good
}

// connect opens what has not been read yet.
func (r *resuming) connect() (err error) {
	r.body, err = r.bucket.Open(r.ctx, r.key, r.etag, r.next, r.end-r.next)
	if err != nil {
		r.body = nil
	}
	return err
}

func (r *resuming) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for r.err == nil {
		if r.next == r.end {
			r.err = io.EOF
			break
		}
		n, err := r.read(p)
		r.next += int64(n)
		if n > 0 {
			r.failures = 0
		}
		if err != nil && r.next < r.end {
			r.recover(err)
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, r.err
}

func (r *resuming) read(p []byte) (int, error) {
	if r.body == nil {
		if err := r.connect(); err != nil {
			return 0, err
		}
	}
	n, err := r.body.Read(p[:min(int64(len(p)), r.end-r.next)])
	if err == io.EOF {
		err = &Error{Op: "read", Key: r.key, Kind: ErrUnavailable, Err: fmt.Errorf("it ends %d bytes too early", r.end-r.next-int64(n))}
	}
	return n, err
}

// recover waits for the next attempt, or sets r.err where there is none: the error is no fault that may pass, or there were enough.
func (r *resuming) recover(err error) {
	_ = r.Close()
	r.body = nil
	if !errors.Is(err, ErrUnavailable) || r.failures == len(resumePauses) {
		r.err = named("read", r.key, err)
		return
	}
	pause := resumePauses[r.failures]
	r.failures++
	select {
	case <-time.After(pause/2 + rand.N(pause/2+1)):
	case <-r.ctx.Done():
		r.err = named("read", r.key, err)
	}
}

func (r *resuming) Close() error {
	if r.body == nil {
		return nil
	}
	return r.body.Close()
}
