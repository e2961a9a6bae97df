// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package seekable

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
)

// FrameSize is what a frame has of the content, in bytes, unless Options say otherwise.
//
// It was measured on cores of a Python process (418 MB) and of a Go process (420 MB of 1.9 GB), as gcore writes them, with 1, 2, 4, 8 and
// 16 MiB. Larger frames hardly compress better: 3.488, 3.492, 3.494, 3.495, 3.496 to 1, and 4.846, 4.868, 4.878, 4.882, 4.884 to
// 1. The rates are the same within the noise, but memory is not: a program that writes with two workers peaks at 23, 40, 71, 136 and
// 199 MB. SpeedDefault makes it 1 % smaller than SpeedFastest and takes a quarter more processor time on Go's and
// two thirds more on Python's.
const FrameSize = 1 << 20

// maxWindow bounds what a decoder of the stream has to keep, in bytes, whatever the size of the frames is. It is what
// RFC 8878 asks every decoder to support.
const maxWindow = 8 << 20

// Options are how a Writer compresses. The zero value is good.
type Options struct {
	// Workers is how many frames are compressed at a time, 1 where it is less.
	Workers int
	// FrameSize is the content of each frame but the last, in bytes, at most MaxFrameSize/2; FrameSize where it is 0.
	FrameSize int
	// Level is how hard it tries; zstd.SpeedFastest where it is 0.
	Level zstd.EncoderLevel
}

// Writer compresses what is written to it. It has up to Workers+1 frames in memory, before and after compression, and uses
// as many goroutines. Its methods must not be called concurrently. Whoever made it must call Close or Abort.
type Writer struct {
	w         io.Writer
	encoder   *zstd.Encoder
	frameSize int

	current *frame      // being filled, nil where there is none
	free    chan *frame // that nobody uses
	pending chan *frame // in the order of the stream
	done    chan struct{}

	table  *Table // the output goroutine's until done is closed
	closed bool

	mu  sync.Mutex
	err error // what ended the stream
}

// frame is a piece of the content on its way through compression, or back.
type frame struct {
	content, stored []byte
	checksum        uint32
	ready           chan struct{} // closed once it has been worked on
	err             error         // valid then
}

// errAborted is what a Writer says after Abort, and errClosed after Close.
var (
	errAborted = errors.New("write to an aborted stream")
	errClosed  = errors.New("write to a closed stream")
)

// NewWriter makes a writer to w, which it does not close. w gets whole frames, one call for each, from one goroutine.
func NewWriter(w io.Writer, o Options) (*Writer, error) {
	workers := max(o.Workers, 1)
	if o.FrameSize == 0 {
		o.FrameSize = FrameSize
	}
	if o.FrameSize < 1 || o.FrameSize > MaxFrameSize/2 {
		return nil, fmt.Errorf("frame size %d: 1 to %d are allowed", o.FrameSize, MaxFrameSize/2)
	}
	if o.Level == 0 {
		o.Level = zstd.SpeedFastest
	}
	// The frame's own checksum lets any decoder notice what the table's lets ours.
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(o.Level), zstd.WithEncoderConcurrency(workers),
		zstd.WithWindowSize(window(o.FrameSize)), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, fmt.Errorf("make zstd encoder: %w", err)
	}
	z := &Writer{
		w: w, encoder: e, frameSize: o.FrameSize,
		free: make(chan *frame, workers+1), pending: make(chan *frame, workers+1), done: make(chan struct{}),
		table: &Table{checksums: true},
	}
	for range workers + 1 {
		z.free <- &frame{}
	}
	go z.output()
	return z, nil
}

// window is the smallest that spans a frame.
func window(frameSize int) int {
	return min(max(1<<bits.Len(uint(frameSize-1)), zstd.MinWindowSize), maxWindow)
}

// Write takes p. It waits where Workers frames are being compressed. An error of the underlying writer comes with this or
// a later call.
func (z *Writer) Write(p []byte) (n int, err error) {
	if z.closed {
		return 0, z.failure()
	}
	for n < len(p) {
		if err := z.failure(); err != nil {
			return n, err
		}
		if z.current == nil {
			z.current = <-z.free
			if z.current.content == nil {
				z.current.content = make([]byte, 0, z.frameSize)
			}
			z.current.content = z.current.content[:0]
		}
		taken := min(len(p)-n, z.frameSize-len(z.current.content))
		z.current.content = append(z.current.content, p[n:n+taken]...)
		n += taken
		if len(z.current.content) == z.frameSize {
			z.send()
		}
	}
	return n, nil
}

// send lets the current frame be compressed. There are as many frames as may be at work, so there are never more goroutines.
func (z *Writer) send() {
	f := z.current
	z.current, f.ready = nil, make(chan struct{})
	z.pending <- f
	go func() {
		defer close(f.ready)
		f.checksum = uint32(xxhash.Sum64(f.content))
		f.stored = z.encoder.EncodeAll(f.content, f.stored[:0])
	}()
}

// output writes frames in their order, and after a failure none any more.
func (z *Writer) output() {
	defer close(z.done)
	for f := range z.pending {
		<-f.ready
		if z.failure() == nil {
			z.fail(z.put(f))
		}
		z.free <- f
	}
}

func (z *Writer) put(f *frame) error {
	if z.table.Frames() == MaxFrames {
		return fmt.Errorf("write frame: a stream has at most %d", MaxFrames)
	}
	n, err := z.w.Write(f.stored)
	if err == nil && n != len(f.stored) {
		err = io.ErrShortWrite
	}
	if err == nil {
		z.table.add(len(f.stored), len(f.content), f.checksum)
	}
	return err
}

// Close compresses what is left, writes the seek table, and waits for all goroutines. It gives the first error of the
// underlying writer. Without a Close that went well, the stream is not complete.
func (z *Writer) Close() error {
	if z.closed {
		if err := z.failure(); err != errClosed {
			return err
		}
		return nil
	}
	if z.current != nil {
		z.send()
	}
	z.end()
	if err := z.failure(); err != nil {
		return err
	}
	table := z.table.encode()
	n, err := z.w.Write(table)
	if err == nil && n != len(table) {
		err = io.ErrShortWrite
	}
	z.fail(err)
	z.fail(errClosed)
	return err
}

// Abort ends the stream as it is, incomplete, and waits for all goroutines. It is harmless after Close.
func (z *Writer) Abort() {
	if !z.closed {
		z.fail(errAborted)
		z.end()
	}
}

func (z *Writer) end() {
	z.closed = true
	close(z.pending)
	<-z.done
	_ = z.encoder.Close()
}

// Table gives the table of a stream that has been closed.
func (z *Writer) Table() *Table { return z.table }

func (z *Writer) fail(err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.err == nil {
		z.err = err
	}
}

func (z *Writer) failure() error {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.err
}
