// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package download

import (
	"fmt"
	"io"
	"runtime/debug"
)

// ahead reads the next chunk while one is being sent. Whole chunks, and always one that is ready, take fewer frames, and wake fewer goroutines here and in
// kube-apiserver, than the few KiB that a store gives at a time.
type ahead struct {
	full, empty chan piece
}

// piece is what was read, and why it is the last one.
type piece struct {
	b   []byte
	err error // io.EOF at the end
}

// chunks is how many chunks are kept for a download.
const chunks = 2

// readAhead begins to read what has length bytes. The caller closes it, and then no more is read from r.
func readAhead(r io.Reader, length int64) *ahead {
	a := &ahead{make(chan piece, chunks), make(chan piece, chunks)}
	for range chunks {
		a.empty <- piece{b: make([]byte, max(1, min(chunk, length)))}
	}
	go a.read(r)
	return a
}

func (a *ahead) read(r io.Reader) {
	defer close(a.full)
	defer func() { // decoders of what strangers have stored are behind r: in a handler a panic ends one request, but here it would end the server
		if v := recover(); v != nil {
			a.full <- piece{err: fmt.Errorf("read ahead: panic: %v\n%s", v, debug.Stack())}
		}
	}()
	for p := range a.empty {
		n, err := fill(r, p.b[:cap(p.b)])
		a.full <- piece{p.b[:n], err}
		if err != nil {
			return
		}
	}
}

// fill reads until b is full or there is an error. Not io.ReadFull, which has the same error for an end within b and for a reader that was cut off.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}

// writeTo passes everything on to w.
func (a *ahead) writeTo(w io.Writer) error {
	for p := range a.full {
		if _, err := w.Write(p.b); err != nil {
			return err
		}
		if p.err == io.EOF {
			return nil
		}
		if p.err != nil {
			return p.err
		}
		a.empty <- p
	}
	panic("the last piece has an error")
}

// close waits until the reader has returned from where it is.
func (a *ahead) close() {
	close(a.empty)
	for range a.full {
	}
}
