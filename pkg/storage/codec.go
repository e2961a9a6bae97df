// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bufio"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
)

func (c Codec) valid() bool { return c == CodecNone || c == CodecZstd || c == CodecGzip }

// ParseCodec understands the name of a codec as users write it: zstd, gzip or none.
func ParseCodec(s string) (Codec, error) {
	switch s {
	case "zstd":
		return CodecZstd, nil
	case "gzip":
		return CodecGzip, nil
	case "none":
		return CodecNone, nil
	}
	return "", fmt.Errorf("%w compression %q: must be zstd, gzip or none", ErrInvalid, s)
}

const (
	// zstdWindow bounds what a decoder has to keep, so that many downloads at a time fit in little memory.
	zstdWindow = 1 << 20
	// zstdMaxWindow is the largest window that is accepted from a foreign file (zstd -19 makes 8 MiB).
	zstdMaxWindow = 8 << 20
	// gzipBlock is what one worker compresses at a time. Each has a few of them.
	gzipBlock = 256 << 10
)

// NewWriter compresses what is written to it, on the given number of workers, and writes it to w. Close
// completes the stream; it does not close w.
func (c Codec) NewWriter(w io.Writer, workers int) (io.WriteCloser, error) {
	switch c {
	case CodecNone:
		return nopWriteCloser{w}, nil
	case CodecZstd:
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(zstdWindow), zstd.WithEncoderConcurrency(workers))
	case CodecGzip:
		z, err := pgzip.NewWriterLevel(w, pgzip.BestSpeed)
		if err != nil {
			return nil, err
		}
		return z, z.SetConcurrency(gzipBlock, workers)
	}
	return nil, fmt.Errorf("%w codec %q", ErrInvalid, c)
}

// NewReader decompresses r. Its errors are of kind ErrCorrupt where the stream is not what the codec says, and r's own
// otherwise. Close releases the decoder; it does not close r.
func (c Codec) NewReader(r io.Reader) (io.ReadCloser, error) {
	switch c {
	case CodecNone:
		return io.NopCloser(r), nil
	case CodecZstd:
		src := &sourceErr{r: r}
		z, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdMaxWindow))
		if err != nil {
			return nil, err
		}
		return &decoder{Reader: z, src: src, close: z.Close}, nil
	case CodecGzip:
		src := &sourceErr{r: r}
		z, err := gzip.NewReader(bufio.NewReaderSize(src, 64<<10))
		if err == io.EOF {
			err = io.ErrUnexpectedEOF // no bytes at all are no gzip stream
		}
		if err != nil {
			return nil, src.blame(err)
		}
		return &decoder{Reader: z, src: src, close: func() { _ = z.Close() }}, nil
	}
	return nil, fmt.Errorf("%w codec %q", ErrInvalid, c)
}

// decoder tells errors of the compressed stream from errors of its source.
type decoder struct {
	io.Reader
	src   *sourceErr
	close func()
}

func (d *decoder) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	return n, d.src.blame(err)
}

func (d *decoder) Close() error {
	d.close()
	return nil
}

// sourceErr remembers how its reader failed.
type sourceErr struct {
	r   io.Reader
	err error
}

func (s *sourceErr) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (s *sourceErr) blame(err error) error {
	switch {
	case err == nil || err == io.EOF:
		return err
	case s.err != nil:
		return s.err
	}
	return fmt.Errorf("%w: %v", ErrCorrupt, err)
}

type nopWriteCloser struct{ io.Writer }

func (nopWriteCloser) Close() error { return nil }
