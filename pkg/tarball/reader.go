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

// ErrNotSeekable is returned where a range is asked of an archive that has files which can only be read from their starts.
var ErrNotSeekable = errors.New("only the whole archive can be read")

// Open reads the archive from its start. It opens one content at a time, when the reader comes to it. A content that
// fails, is short or is long ends the stream with an error: nothing is padded or cut. The caller closes the reader.
func (a *Archive) Open(ctx context.Context) io.ReadCloser {
	return &reader{ctx: ctx, archive: a, end: a.Size()}
}

// OpenRange reads length bytes of the archive from offset on; both must be within its Size. It opens only the contents that
// have them, and of those only the ranges. Apart from that it is like Open, but it cannot verify a content as a whole of
// which it reads a part. The error is of kind ErrNotSeekable where the archive is not Seekable and it is not the
// whole that is asked for.
func (a *Archive) OpenRange(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	switch {
	case offset < 0 || length < 0 || offset > a.Size() || length > a.Size()-offset:
		return nil, fmt.Errorf("open %d bytes at %d: the archive has %d", length, offset, a.Size())
	case length < a.Size() && !a.Seekable():
		return nil, ErrNotSeekable
	}
	return &reader{ctx: ctx, archive: a, item: a.first(offset), offset: offset, end: offset + length}, nil
}

type reader struct {
	ctx         context.Context
	archive     *Archive // nil where there is nothing behind rest
	item        int      // the next of the archive
	offset, end int64    // what is to be read of the archive
	rest        []part   // of the items up to item

	current io.ReadCloser // nil between parts
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

// read makes one step. It returns 0 where a part ended or r.err is set.
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

// layOut makes the parts of the next item, or says that there is none in the range. A content of no bytes within it is a
// part: opening it verifies what is its own.
func (r *reader) layOut() error {
	if r.archive == nil || r.item == len(r.archive.ends) {
		return io.EOF
	}
	start := int64(0)
	if r.item > 0 {
		start = r.archive.ends[r.item-1]
	}
	if start >= r.end {
		return io.EOF
	}
	segments, err := r.archive.item(r.item)
	if err != nil {
		return err
	}
	r.item++
	for _, s := range segments {
		from, to := max(r.offset-start, 0), min(r.end-start, s.size)
		if from < to || s.size == 0 && from == 0 && to == 0 {
			r.rest = append(r.rest, s.part(from, to))
		}
		start += s.size
	}
	return nil
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
