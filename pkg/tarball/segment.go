// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package tarball

import (
	"bytes"
	"context"
	"io"
)

// segment is a piece of an archive with a known length: bytes that are in memory, or the content of a file.
type segment struct {
	name   string
	size   int64
	memory []byte // nil where it is a content
	id     string // tells the content from any other; "" where that is not known
	// open opens length bytes from offset on; nil where only the whole can be opened.
	open func(ctx context.Context, offset, length int64) (io.ReadCloser, error)
	// whole opens all bytes. It may verify more than open can. It may be nil where there is open.
	whole func(ctx context.Context) (io.ReadCloser, error)
}

func inMemory(name string, b []byte) segment {
	return segment{name: name, size: int64(len(b)), memory: b, open: ranged(b)}
}

// ranged opens ranges of b.
func ranged(b []byte) func(context.Context, int64, int64) (io.ReadCloser, error) {
	return func(_ context.Context, offset, length int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b[offset : offset+length])), nil
	}
}

// part is the piece of a segment that a reader wants.
type part struct {
	name string
	size int64
	open func(ctx context.Context) (io.ReadCloser, error)
}

// part gives the bytes from offset up to end.
func (s segment) part(offset, end int64) part {
	p := part{name: s.name, size: end - offset, open: s.whole}
	if p.size < s.size || s.whole == nil {
		p.open = func(ctx context.Context) (io.ReadCloser, error) { return s.open(ctx, offset, p.size) }
	}
	return p
}
