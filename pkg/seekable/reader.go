// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package seekable

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
)

// errReaderClosed is what a reader says after Close.
var errReaderClosed = errors.New("read from a closed reader")

// reader gives a range of the content. A goroutine fetches frames, one goroutine for each frame decompresses it.
type reader struct {
	table   *Table
	decoder *zstd.Decoder
	cancel  context.CancelFunc
	free    chan *frame // that nobody uses
	pending chan *frame // in the order of the stream, closed by fetch
	fetched error       // how fetch ended; valid once pending is closed

	skip    int64  // of the first frame
	left    int64  // bytes to give
	current *frame // being given, nil where there is none
	rest    []byte // of current
	err     error  // what ended the reading
	closed  bool
}

// Open reads length bytes of the content from offset on; both must be within the table's Size. It reads, with one
// call of open and from front to back, only the frames that have them, and decompresses them on the given number of workers,
// ahead of its reader. It has up to workers+1 frames in memory, compressed and decompressed.
//
// Every frame is checked before a byte of it is given: its size, and its checksum, the one in the table or else its own; both are of the
// same bytes by the same function. Errors are of kind
// ErrCorrupt where a frame is not what the table says; other errors come from open and from what it opened. io.EOF
// comes only after all bytes. The caller closes the reader, which is not safe for concurrent use.
func Open(ctx context.Context, t *Table, open Opener, offset, length int64, workers int) (io.ReadCloser, error) {
	if offset < 0 || length < 0 || offset > t.Size() || length > t.Size()-offset {
		return nil, fmt.Errorf("open %d bytes at %d: the content has %d", length, offset, t.Size())
	}
	workers = max(workers, 1)
	first, end := t.Range(offset, length)
	if first == end {
		return io.NopCloser(eof{}), nil
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(workers), zstd.WithDecoderMaxMemory(MaxFrameSize),
		zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderLowmem(true), zstd.IgnoreChecksum(t.checksums))
	if err != nil {
		return nil, fmt.Errorf("make zstd decoder: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	from, last := t.Frame(first), t.Frame(end-1)
	src, err := open(ctx, from.Offset, last.Offset+last.StoredSize-from.Offset)
	if err != nil {
		cancel()
		d.Close()
		return nil, err
	}
	r := &reader{
		table: t, decoder: d, cancel: cancel,
		free: make(chan *frame, workers+1), pending: make(chan *frame, workers+1),
		skip: offset - from.ContentOffset, left: length,
	}
	for range workers + 1 {
		r.free <- &frame{}
	}
	go r.fetch(ctx, src, first, end)
	return r, nil
}

// fetch cuts src into frames and lets them be decompressed.
func (r *reader) fetch(ctx context.Context, src io.ReadCloser, first, end int) {
	defer close(r.pending)
	defer src.Close()
	for i := first; i < end; i++ {
		var f *frame
		select {
		case f = <-r.free:
		case <-ctx.Done():
			r.fetched = ctx.Err()
			return
		}
		want := r.table.Frame(i)
		f.stored = sized(f.stored, int(want.StoredSize))
		if err := readFull(src, f.stored); err != nil {
			r.fetched = fmt.Errorf("read frame %d: %w", i, err)
			return
		}
		f.ready = make(chan struct{})
		r.pending <- f
		go func() {
			defer close(f.ready)
			f.err = r.decode(f, i, want)
		}()
	}
}

// decode decompresses a frame and compares it with the table.
func (r *reader) decode(f *frame, i int, want Frame) (err error) {
	// The capacity is the limit for a frame that has more than the table says.
	f.content, err = r.decoder.DecodeAll(f.stored, sized(f.content, int(want.Size))[:0:want.Size])
	switch {
	case err != nil:
		return fmt.Errorf("%w: frame %d: %w", ErrCorrupt, i, err)
	case int64(len(f.content)) != want.Size:
		return fmt.Errorf("%w: frame %d has %d bytes, its table says %d", ErrCorrupt, i, len(f.content), want.Size)
	case r.table.checksums && uint32(xxhash.Sum64(f.content)) != want.Checksum:
		return fmt.Errorf("%w: frame %d has another checksum than its table says", ErrCorrupt, i)
	}
	return nil
}

// sized gives a buffer of n bytes, b where it is large enough.
func sized(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 || r.err != nil {
		return 0, r.err
	}
	for len(r.rest) == 0 {
		if r.err = r.next(); r.err != nil {
			return 0, r.err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	r.left -= int64(n)
	return n, nil
}

// WriteTo gives w all that is left, a frame at a time, without copying it.
func (r *reader) WriteTo(w io.Writer) (n int64, err error) {
	for {
		if len(r.rest) == 0 && r.err == nil {
			r.err = r.next()
		}
		if r.err == io.EOF {
			return n, nil
		}
		if r.err != nil {
			return n, r.err
		}
		m, err := w.Write(r.rest)
		if err == nil && m != len(r.rest) {
			err = io.ErrShortWrite
		}
		n += int64(m)
		r.rest = r.rest[m:]
		r.left -= int64(m)
		if err != nil {
			return n, err
		}
	}
}

// next goes on to the next frame. What is left of it to give may be nothing.
func (r *reader) next() error {
	if r.left == 0 {
		return io.EOF
	}
	if r.current != nil {
		r.free <- r.current
		r.current = nil
	}
	f, ok := <-r.pending
	if !ok {
		return r.fetched // never nil: bytes are left
	}
	<-f.ready
	if f.err != nil {
		return f.err
	}
	r.current, r.rest = f, f.content[r.skip:]
	r.rest = r.rest[:min(int64(len(r.rest)), r.left)]
	r.skip = 0
	return nil
}

// Close ends the reading and waits for all goroutines.
func (r *reader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	if r.err == nil {
		r.err = errReaderClosed
	}
	r.cancel()
	for f := range r.pending {
		<-f.ready
	}
	r.decoder.Close()
	return nil
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }
