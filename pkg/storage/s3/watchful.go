// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// watchful is an HTTP client that gives a request up when no byte of it has moved for a while: while it connects, sends, waits for the
// answer and reads it. A store that hangs fails so, and one that is slow does not. The time that the caller takes between two reads of an
// answer does not count.
type watchful struct {
	client  aws.HTTPClient
	timeout time.Duration
}

func (w *watchful) Do(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	watch := &watch{timeout: w.timeout, ctx: ctx}
	watch.timer = time.AfterFunc(w.timeout, func() { cancel(errStalled) })
	req = req.WithContext(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &sending{req.Body, watch}
		req.GetBody = nil
	}
	resp, err := w.client.Do(req)
	watch.timer.Stop()
	if err != nil {
		err = watch.blame(err)
		cancel(nil)
		return nil, err
	}
	resp.Body = &receiving{resp.Body, watch, cancel}
	return resp, nil
}

// watch is the watch over one request.
type watch struct {
	timeout time.Duration
	timer   *time.Timer
	ctx     context.Context
}

// blame puts the reason into the place of an error that comes from it.
func (w *watch) blame(err error) error {
	if err != nil && err != io.EOF && context.Cause(w.ctx) == errStalled {
		return fmt.Errorf("%w (%v)", errStalled, w.timeout)
	}
	return err
}

type sending struct {
	io.ReadCloser
	watch *watch
}

func (s *sending) Read(p []byte) (int, error) {
	s.watch.timer.Reset(s.watch.timeout)
	return s.ReadCloser.Read(p)
}

type receiving struct {
	io.ReadCloser
	watch  *watch
	cancel context.CancelCauseFunc
}

func (r *receiving) Read(p []byte) (int, error) {
	r.watch.timer.Reset(r.watch.timeout)
	n, err := r.ReadCloser.Read(p)
	r.watch.timer.Stop()
	return n, r.watch.blame(err)
}

func (r *receiving) Close() error {
	r.watch.timer.Stop()
	err := r.ReadCloser.Close()
	r.cancel(nil)
	return err
}
