// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds what a stream without a seek table makes its decoder keep, in bytes. zstd --long has 128 MiB.
const maxWindow = 128 << 20

// copyBuffer is how much is hashed and written at a time.
const copyBuffer = 1 << 20

// core takes the core in order, and knows at its end whether it is the one of the record.
type core struct {
	out   io.Writer // fails where there is more than the record says
	hash  hash.Hash
	n     int64
	meter *Meter
}

func newCore(out io.Writer, m *Meter) *core {
	m.wrote(0)
	return &core{out: out, hash: sha256.New(), meter: m}
}

// Write writes and hashes at the same time: either takes about as long as the other. A core that could not be written is of no more use.
func (c *core) Write(p []byte) (int, error) {
	hashed := make(chan struct{})
	go func() {
		defer close(hashed)
		c.hash.Write(p)
	}()
	n, err := c.out.Write(p)
	<-hashed
	c.n += int64(n)
	c.meter.wrote(c.n)
	return n, err
}

// copy takes all of r.
func (c *core) copy(r io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{c}, r, make([]byte, copyBuffer))
	return err
}

// check compares what came with the record.
func (c *core) check(d Dump) error {
	if c.n != d.Size {
		return fmt.Errorf("%w: the core has %d bytes, the record says %d", ErrWrong, c.n, d.Size)
	}
	if sum := hex.EncodeToString(c.hash.Sum(nil)); sum != d.SHA256 {
		return fmt.Errorf("%w: the SHA-256 of the core is %s, the record says %.64q", ErrWrong, sum, d.SHA256)
	}
	return nil
}

// finish is check, and gives a file that has holes at its end its length.
func (c *core) finish(d Dump) error {
	if err := c.check(d); err != nil {
		return err
	}
	if s, ok := c.out.(*sparse); ok {
		return s.finish()
	}
	return nil
}

// source tells errors of reading from those of decoding.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// decompress takes all of r, which is zstd if compressed says so. Errors are those of r, of what is written to, or of kind ErrWrong.
func (c *core) decompress(r io.Reader, compressed bool, workers int) error {
	if !compressed {
		return c.copy(r)
	}
	in := &source{Reader: r}
	z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(workers), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	defer z.Close()
	out := &target{core: c}
	_, err = io.CopyBuffer(out, struct{ io.Reader }{z}, make([]byte, copyBuffer))
	switch {
	case err == nil:
		return nil
	case in.err != nil:
		return in.err
	case out.err != nil:
		return out.err
	}
	return fmt.Errorf("%w: it is no zstd: %w", ErrWrong, err)
}

// target tells errors of writing from those of decoding.
type target struct {
	core *core
	err  error
}

func (t *target) Write(p []byte) (int, error) {
	n, err := t.core.Write(p)
	t.err = err
	return n, err
}
