// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package seekable

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Opener opens length bytes of a stream from offset on. Both are within the stream. What it returns may have more bytes;
// where it has fewer the stream is corrupt. Reading it must fail soon after ctx has ended. Whoever called closes it.
type Opener func(ctx context.Context, offset, length int64) (io.ReadCloser, error)

// tailSize is what ReadTable reads at first: the table of 5,460 frames with checksums.
const tailSize = 64 << 10

// ReadTable reads the seek table of a stream of storedSize bytes, in one request or two. Errors are of kind ErrNoTable or
// ErrCorrupt, or come from open.
func ReadTable(ctx context.Context, open Opener, storedSize int64) (*Table, error) {
	tail, err := readTail(ctx, open, storedSize, tailSize)
	if err != nil {
		return nil, err
	}
	f, err := parseFooter(tail)
	if err != nil {
		return nil, err
	}
	if size := tableSize(f.frames, f.checksums); size > int64(len(tail)) && size <= storedSize {
		if tail, err = readTail(ctx, open, storedSize, size); err != nil {
			return nil, err
		}
	}
	return ParseTable(tail, storedSize)
}

func readTail(ctx context.Context, open Opener, storedSize, n int64) ([]byte, error) {
	n = min(n, storedSize)
	if n <= 0 {
		return nil, nil
	}
	r, err := open(ctx, storedSize-n, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	tail := make([]byte, n)
	if err := readFull(r, tail); err != nil {
		return nil, err
	}
	return tail, nil
}

// readFull fills p. Its errors are of kind ErrCorrupt where r ends before.
func readFull(r io.Reader, p []byte) error {
	n, err := io.ReadFull(r, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %d of %d bytes are missing: %w", ErrCorrupt, len(p)-n, len(p), io.ErrUnexpectedEOF)
	}
	return err
}
