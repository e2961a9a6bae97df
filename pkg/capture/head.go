// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"bytes"
	"errors"

	"example.io/coredump/pkg/corefile"
)

// head reads the beginning of a core as it passes: how long it promises to be, and where it crashed. Write never fails.
type head interface {
	Write([]byte) (int, error)
	PromisedSize() int64
	HeadDone() bool
	HeadEnd() int64
	Err() error
	Site() string
}

func newHead() head { return &plainHead{} }

// plainHead knows the ELF header and the program headers.
type plainHead struct {
	buf  []byte
	h    corefile.Header
	err  error
	done bool
}

const maxHead = 4 << 20

func (p *plainHead) Write(b []byte) (int, error) {
	if !p.done {
		p.buf = append(p.buf, b[:min(len(b), maxHead-len(p.buf))]...)
		r := bytes.NewReader(p.buf)
		p.h, p.err = corefile.ReadHeader(r)
		p.done = r.Len() > 0 || len(p.buf) == maxHead
		if errors.Is(p.err, corefile.ErrNotCore) && len(p.buf) < 64 {
			p.err = nil
		}
	}
	return len(b), nil
}
func (p *plainHead) PromisedSize() int64 {
	if !p.done {
		return 0
	}
	return p.h.PromisedSize
}
func (p *plainHead) HeadDone() bool { return p.done }
func (p *plainHead) HeadEnd() int64 { return 0 }
func (p *plainHead) Err() error     { return p.err }
func (p *plainHead) Site() string   { return "" }
