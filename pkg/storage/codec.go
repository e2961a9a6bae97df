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

	"example.io/coredump/pkg/seekable"
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
	// zstdMaxWindow is the largest window that is accepted from a foreign file (zstd -19 makes 8 MiB).
	zstdMaxWindow = 8 << 20
	// gzipBlock is what one worker compresses at a time. Each has a few of them.
	gzipBlock = 256 << 10
)

// Writer compresses what is written to it. Its methods must not be called concurrently, and who made it calls Close or Abort: it has
// goroutines.
type Writer interface {
	io.Writer
	// Close completes the stream. It does not close what the stream is written to.
	Close() error
	// Abort ends the stream as it is. What has been written of it does not look complete. It is harmless after Close.
	Abort()
}

// NewWriter makes a writer to w that compresses on the given number of workers. zstd is in the seekable format (package seekable): OpenCoreRange
// can read any range of it. Each worker takes about 6 MiB for zstd, as its encoder and the frames it has in hand, and a few blocks for gzip.
func (c Codec) NewWriter(w io.Writer, workers int) (Writer, error) {
	switch c {
	case CodecNone:
		return plainWriter{w}, nil
	case CodecZstd:
		return seekable.NewWriter(w, seekable.Options{Workers: workers})
	case CodecGzip:
		z, err := pgzip.NewWriterLevel(w, pgzip.BestSpeed)
		if err != nil {
			return nil, err
		}
		return &gzipWriter{Writer: z}, z.SetConcurrency(gzipBlock, workers)
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

type plainWriter struct{ io.Writer }

func (plainWriter) Close() error { return nil }
func (plainWriter) Abort()       {}

type gzipWriter struct {
	*pgzip.Writer
	closed bool // well
}

func (g *gzipWriter) Close() error {
	err := g.Writer.Close()
	g.closed = err == nil
	return err
}

// Abort writes the trailer to nowhere: without a Close that went well the goroutines would stay.
func (g *gzipWriter) Abort() {
	if !g.closed {
		g.Reset(io.Discard)
		_ = g.Close()
	}
}
