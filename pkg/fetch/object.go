// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxBody bounds what is kept of an answer that is an error.
const maxBody = 4 << 10

// maxTag bounds an entity tag.
const maxTag = 256

// Object is where a server has the bytes.
type Object struct {
	// Client sends the requests; its Timeout must be 0.
	Client *http.Client
	// Ranges is the URL that is asked for ranges, Whole the one that is read from front to back where there are none.
	Ranges, Whole string
	// Stall is how long the server may send nothing before a request is given up; 30 s where it is 0.
	Stall time.Duration
	// Wrong tells whether an error of the server says that what it has is not what the record says, so that asking again does not help. It may be nil.
	Wrong func(*StatusError) bool

	size int64
	etag string // strong, with quotes; empty where there are no ranges
}

var errStalled = errors.New("the server sent nothing for too long")

// probe asks what is there: its entity tag, if ranges of it can be had. It must have size bytes.
func (o *Object) probe(ctx context.Context, size int64) error {
	o.size, o.etag = size, ""
	resp, done, err := o.get(ctx, o.Ranges, http.Header{"Range": {"bytes=0-0"}})
	if err != nil {
		return err
	}
	defer done()
	switch resp.StatusCode {
	case http.StatusOK:
		if n := resp.ContentLength; n >= 0 && n != size {
			return o.otherSize(n)
		}
		return nil
	case http.StatusPartialContent:
	default:
		return o.failure(resp)
	}
	tag := resp.Header.Get("ETag")
	_, _, total, err := contentRange(resp.Header.Get("Content-Range"))
	switch {
	case err != nil:
		return err
	case total != size:
		return o.otherSize(total)
	case len(tag) > maxTag || len(tag) < 2 || tag[0] != '"' || tag[len(tag)-1] != '"' || strings.ContainsAny(tag[1:len(tag)-1], "\"\r\n"):
		return nil // a weak tag is none: two ranges might not fit together
	}
	o.etag = tag
	return nil
}

func (o *Object) otherSize(n int64) error {
	return fmt.Errorf("%w: the server has %d bytes, the record says %d", ErrWrong, n, o.size)
}

// open asks for length bytes from offset on. What it gives may end early, or with an error. The caller closes it.
func (o *Object) open(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	resp, done, err := o.get(ctx, o.Ranges, http.Header{
		"Range":    {fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)},
		"If-Match": {o.etag},
	})
	if err != nil {
		return nil, err
	}
	if err := o.check(resp, offset); err != nil {
		done()
		return nil, err
	}
	return &answer{io.LimitReader(resp.Body, length), done}, nil
}

func (o *Object) check(resp *http.Response, offset int64) error {
	switch resp.StatusCode {
	case http.StatusPartialContent:
		from, _, total, err := contentRange(resp.Header.Get("Content-Range"))
		switch {
		case err != nil:
			return err
		case total != o.size:
			return o.otherSize(total)
		case resp.Header.Get("ETag") != o.etag:
			return fmt.Errorf("%w: its tag is %.80q now", ErrChanged, resp.Header.Get("ETag"))
		case from != offset:
			return fmt.Errorf("asked for bytes from %d on, the server sends those from %d on", offset, from)
		}
		return nil
	case http.StatusOK:
		return errNoRanges
	case http.StatusPreconditionFailed:
		return ErrChanged
	case http.StatusRequestedRangeNotSatisfiable:
		return fmt.Errorf("%w: the server says that byte %d of %d does not exist", ErrWrong, offset, o.size)
	}
	return o.failure(resp)
}

// whole opens all of it. The caller closes it. What it gives may end early, or with an error.
func (o *Object) whole(ctx context.Context) (io.ReadCloser, error) {
	resp, done, err := o.get(ctx, o.Whole, http.Header{"Accept-Encoding": {"identity"}})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer done()
		return nil, o.failure(resp)
	}
	return &answer{resp.Body, done}, nil
}

// get sends a request. done ends it, and must be called if there is no error.
func (o *Object) get(ctx context.Context, url string, header http.Header) (resp *http.Response, done func(), err error) {
	stall := o.Stall
	if stall == 0 {
		stall = 30 * time.Second
	}
	ctx, cancel := context.WithCancelCause(ctx)
	watchdog := time.AfterFunc(stall, func() { cancel(errStalled) })
	end := func() { watchdog.Stop(); cancel(nil) }
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err == nil {
		req.Header = header
		resp, err = o.Client.Do(req)
	}
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
			err = cause
		}
		end()
		return nil, nil, err
	}
	body := resp.Body
	resp.Body = &watched{ReadCloser: body, ctx: ctx, watchdog: watchdog, stall: stall}
	return resp, func() { end(); _ = body.Close() }, nil
}

// watched gives up on a server that stands still.
type watched struct {
	io.ReadCloser
	ctx      context.Context
	watchdog *time.Timer
	stall    time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	w.watchdog.Reset(w.stall)
	n, err := w.ReadCloser.Read(p)
	w.watchdog.Stop()
	if err != nil && err != io.EOF && errors.Is(context.Cause(w.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

type answer struct {
	io.Reader
	done func()
}

func (a *answer) Close() error {
	a.done()
	return nil
}

func (o *Object) failure(resp *http.Response) error {
	e := &StatusError{Code: resp.StatusCode}
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 {
		e.RetryAfter = time.Duration(min(n, 60)) * time.Second
	}
	e.Body, _ = io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if o.Wrong != nil && o.Wrong(e) {
		return fmt.Errorf("%w: %w", ErrWrong, e)
	}
	return e
}

// contentRange understands "bytes 0-9/100" (RFC 9110, section 14.4). A total that is not known is an error.
func contentRange(s string) (from, to, total int64, err error) {
	bad := fmt.Errorf("the server's Content-Range is %.80q", s)
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, all, ok2 := strings.Cut(rest, "/")
	first, last, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, 0, bad
	}
	for _, n := range []struct {
		s string
		p *int64
	}{{first, &from}, {last, &to}, {all, &total}} {
		if v, err := strconv.ParseUint(n.s, 10, 63); err != nil {
			return 0, 0, 0, bad
		} else {
			*n.p = int64(v)
		}
	}
	if from > to || to >= total {
		return 0, 0, 0, bad
	}
	return from, to, total, nil
}
