// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package tarball

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// ErrSize is returned where a content is shorter or longer than its file was said to be.
var ErrSize = errors.New("content does not have the size it was said to have")

// Open reads the archive from its start. It opens one content at a time, when the reader comes to it. A content that
// fails, is short or is long ends the stream with an error: nothing is padded or cut. The caller closes the reader.
func (a *Archive) Open(ctx context.Context) io.ReadCloser {
	return &reader{ctx: ctx, files: a.files}
}

type reader struct {
	ctx   context.Context
	files []File    // that no segments have been made of yet
	rest  []segment // of the file that is being read, or the trailer
	ended bool      // the trailer has been among rest

	current io.ReadCloser // nil between segments
	left    int64         // bytes of current that have not been read
	err     error         // what ended the stream
}

func (r *reader) Read(p []byte) (int, error) {
	for r.err == nil {
		if len(p) == 0 {
			return 0, nil
		}
		if n := r.read(p); n > 0 {
			return n, nil
		}
	}
	return 0, r.err
}

// read makes one step. It returns 0 where a segment ended or r.err is set.
func (r *reader) read(p []byte) int {
	switch {
	case r.current != nil:
	case len(r.rest) == 0:
		r.err = r.layOut()
		return 0
	default:
		if r.current, r.err = r.rest[0].open(r.ctx); r.err != nil {
			r.current = nil
			return 0
		}
		r.left = r.rest[0].size
	}
	if r.left == 0 {
		r.finish()
		return 0
	}
	n, err := r.current.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	switch {
	case err == io.EOF && r.left > 0:
		r.err = fmt.Errorf("read %s: %w: %d of %d bytes are missing", r.rest[0].name, ErrSize, r.left, r.rest[0].size)
		return 0
	case err == io.EOF:
		r.next()
	case err != nil:
		r.err = err
		return 0
	}
	return n
}

// layOut makes the next segments, or says that there are no more.
func (r *reader) layOut() (err error) {
	switch {
	case len(r.files) > 0:
		r.rest, err = r.files[0].segments()
		r.files = r.files[1:]
		return err
	case !r.ended:
		r.rest, r.ended = []segment{inMemory("trailer", make([]byte, trailerSize))}, true
		return nil
	}
	return io.EOF
}

// finish asks a content of which all bytes have been read whether that was all, and in order.
func (r *reader) finish() {
	var more [1]byte
	n, err := r.current.Read(more[:])
	switch {
	case n > 0:
		r.err = fmt.Errorf("read %s: %w: there is more than %d bytes", r.rest[0].name, ErrSize, r.rest[0].size)
	case err == io.EOF:
		r.next()
	case err != nil:
		r.err = err
	}
}

func (r *reader) next() {
	r.err = r.current.Close()
	r.current, r.rest = nil, r.rest[1:]
}

// Close releases what is open. The archive itself stays usable.
func (r *reader) Close() error {
	if r.err == nil {
		r.err = errors.New("read from a closed archive")
	}
	if r.current == nil {
		return nil
	}
	current := r.current
	r.current = nil
	return current.Close()
}
