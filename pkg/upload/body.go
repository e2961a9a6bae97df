// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package upload

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"example.io/coredump/pkg/corefile"
	"example.io/coredump/pkg/storage"
)

const copyBuffer = 256 << 10

// badFile is the error of a file that can never be uploaded as it is.
type badFile struct {
	reason Reason
	err    error
}

func (e *badFile) Error() string { return e.err.Error() }

// errAbandoned ends the reading of a file whose bytes nobody wants any more.
var errAbandoned = errors.New("abandoned")

// body reads a dump once, from front to back, and gives the bytes to be stored, while it takes the sum and the size of
// the core in them, and what it says of the crash. A file that is compressed already is stored as it is and decompressed on the side. A goroutine
// reads the file; close ends it.
type body struct {
	codec storage.Codec // of what is stored
	limit int64         // upper bound of what is stored
	out   *io.PipeReader
	read  int64 // what has been taken from out

	// core is valid once out has given io.EOF.
	core summer
	done chan struct{}
	err  error // valid once done is closed
}

// newBody begins to read o. It calls moved whenever bytes pass.
func (p *Pool) newBody(o *Opened, moved func()) *body {
	out, in := io.Pipe()
	b := &body{codec: o.Codec, limit: o.Size, out: out, core: newSummer(), done: make(chan struct{})}
	pass := func(file io.Reader) error { return b.asItIs(in, file, p.opts.MaxSize) }
	if o.Codec == storage.CodecNone {
		b.codec = p.opts.Codec
		b.limit += o.Size/256 + 1<<20 // what cannot be compressed gets a little longer
		pass = func(file io.Reader) error { return b.compress(in, file, p.opts.CompressionWorkers) }
	}
	go func() {
		defer close(b.done)
		b.err = pass(&progress{o.File, moved})
		if b.err == nil {
			b.err = o.File.Unchanged()
		}
		in.CloseWithError(b.err) // io.EOF where there is none
	}()
	return b
}

// compress writes the file to in, compressed.
func (b *body) compress(in io.Writer, file io.Reader, workers int) error {
	z, err := b.codec.NewWriter(in, workers)
	if err != nil {
		return err
	}
	defer z.Abort()
	if _, err = io.CopyBuffer(plain{io.MultiWriter(&b.core, z)}, file, make([]byte, copyBuffer)); err != nil {
		return err
	}
	return z.Close()
}

// asItIs writes the file to in as it is, and decompresses what goes by.
func (b *body) asItIs(in io.Writer, file io.Reader, maxSize int64) error {
	z, err := b.codec.NewReader(io.TeeReader(file, in))
	if err != nil {
		return corrupt(err)
	}
	defer z.Close()
	n, err := io.CopyBuffer(&b.core, io.LimitReader(z, maxSize+1), make([]byte, copyBuffer))
	switch {
	case err != nil:
		return corrupt(err)
	case n > maxSize:
		return &badFile{ReasonTooLarge, fmt.Errorf("more than %d bytes when decompressed: at most that many are allowed", maxSize)}
	}
	return nil
}

// corrupt tells a file that is not what its suffix says from a file that cannot be read.
func corrupt(err error) error {
	if errors.Is(err, storage.ErrCorrupt) {
		return &badFile{ReasonCorrupt, err}
	}
	return err
}

// storage is the body as the store wants it, with the bundle that goes beside it.
func (b *body) storage(beside []byte) storage.Body {
	return storage.Body{Reader: b, Codec: b.codec, MaxSize: b.limit, Context: beside}
}

// Read gives the bytes to be stored.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.out.Read(p)
	b.read += int64(n)
	return n, err
}

// close ends the reading of the file and waits for that. It gives the error of reading it, or nil where that went well or was
// ended by close.
func (b *body) close() error {
	b.out.CloseWithError(errAbandoned)
	<-b.done
	if errors.Is(b.err, errAbandoned) {
		return nil
	}
	return b.err
}

// summer takes sum and size of the core that is written to it, and reads the facts in it.
type summer struct {
	size  int64
	sum   hash.Hash
	facts *corefile.Parser
}

func newSummer() summer { return summer{sum: sha256.New(), facts: corefile.NewParser()} }

func (s *summer) Write(p []byte) (int, error) {
	s.size += int64(len(p))
	_, _ = s.facts.Write(p) // never fails: a core that it does not understand is stored as any other
	return s.sum.Write(p)
}

func (s *summer) sha256() string { return hex.EncodeToString(s.sum.Sum(nil)) }

// progress tells of bytes that pass.
type progress struct {
	io.Reader
	moved func()
}

func (p *progress) Read(b []byte) (int, error) {
	p.moved()
	return p.Reader.Read(b)
}

// plain hides what else a writer can do, so that io.CopyBuffer uses its buffer.
type plain struct{ io.Writer }
