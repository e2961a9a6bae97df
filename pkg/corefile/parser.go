// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package corefile

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math"
)

const (
	// scratch is how much is gathered of what must be seen in one piece, in bytes.
	scratch = 4096
	// maxKept bounds the segments and the mappings that are kept, each 32 bytes. It is twice what the kernel allows a process by
	// default (vm.max_map_count); what is beyond goes unlooked at.
	maxKept = 1 << 17
)

// Parser reads the facts of a crash out of a core that is written to it, front to back, in pieces of any size. It is used by one goroutine.
//
// Whatever is written to it, it keeps at most 16 MiB, and 200 KiB of an ordinary core. The kernel writes headers and notes first, which
// say nearly everything; of the memory behind them it takes the first page of each mapped file (build ids) and the
// stack of the crashing thread.
//
// Of a core that gdb wrote, which has its notes last, there are no build ids and but one frame.
//
// It knows the notes of 64-bit cores of amd64 and arm64. Of others it tells what the headers say.
type Parser struct {
	// What is done with the next bytes: skip are passed over, then need are gathered in buf and given to next. A next of nil
	// is the end of that: headers and notes have passed, or make no sense, and regions of the memory are all that is of interest.
	pos  int64
	skip int64
	need int
	next func(*Parser, []byte)
	buf  []byte
	err  error

	headers  decoder
	promised int64
	machine  *machine // nil where the notes are not understood
	order    binary.ByteOrder
	loads    []load
	// noteStart and noteEnd are offsets; noteEnd is 0 until the program headers have passed.
	noteStart, noteEnd int64
	note               noteHeader

	process  process
	mappings mappings
	regions  regions
}

// load is a segment of memory.
type load struct {
	vaddr, off, size uint64 // size is what the file has of it
	exec             bool
}

// NewParser makes a parser that waits for the first byte.
func NewParser() *Parser {
	p := &Parser{buf: make([]byte, 0, scratch)}
	p.gather(p.headers.next(), (*Parser).header)
	return p
}

// Write takes the next bytes of the core. It always gives len(b), nil: what cannot be understood is nothing that keeps a core from being
// copied; see Err. It does not keep b.
func (p *Parser) Write(b []byte) (n int, err error) {
	n = len(b)
	defer func() {
		// The bytes are a tenant's, and no mistake here may cost anybody a core.
		if r := recover(); r != nil {
			p.giveUp(fmt.Errorf("reading the core: %v", r))
			p.regions = regions{}
		}
	}()
	for p.next != nil && (len(b) > 0 || p.skip == 0 && p.need == 0) {
		if p.skip > 0 {
			k := min(p.skip, int64(len(b)))
			b, p.skip, p.pos = b[k:], p.skip-k, p.pos+k
			continue
		}
		k := min(p.need-len(p.buf), len(b))
		p.buf, b, p.pos = append(p.buf, b[:k]...), b[k:], p.pos+int64(k)
		if len(p.buf) == p.need {
			piece := p.buf
			p.buf = p.buf[:0]
			p.next(p, piece) // which sets what comes next, and is done with piece when it returns
		}
	}
	p.regions.pass(p.pos, b)
	p.pos += int64(len(b))
	return n, nil
}

// PromisedSize is the length in bytes that the headers promise; 0 until they have passed or where it cannot be told.
func (p *Parser) PromisedSize() int64 { return p.promised }

// HeadDone is true once header, program headers and notes have passed, or turned out to make no sense.
func (p *Parser) HeadDone() bool { return p.next == nil }

// HeadEnd is the offset where the notes end, known as soon as the program headers have passed; 0 before, and of what is no core. It is a promise
// as PromisedSize is: of a process with tens of thousands of threads it is hundreds of MiB.
func (p *Parser) HeadEnd() int64 { return p.noteEnd }

// Err says what was wrong with headers or notes; nil where nothing was, or as far as has been seen: a core that ends early is not wrong. It is of
// kind ErrNotCore where the bytes are no core.
func (p *Parser) Err() error { return p.err }

// gather makes next take the next n bytes, at most scratch.
func (p *Parser) gather(n int, next func(*Parser, []byte)) { p.need, p.next = n, next }

// giveUp ends the reading of headers and notes.
func (p *Parser) giveUp(err error) {
	if p.err == nil {
		p.err = err
	}
	p.next, p.skip = nil, 0
	p.loads = nil
}

// header takes a piece of the headers.
func (p *Parser) header(b []byte) {
	ph, err := p.headers.step(b)
	if err != nil {
		p.giveUp(err)
		return
	}
	if ph != nil {
		p.segment(ph)
	}
	if n := p.headers.next(); n > 0 {
		p.gather(n, (*Parser).header)
		return
	}
	p.headersDone()
}

// segment keeps what is of interest of a program header.
func (p *Parser) segment(ph *phdr) {
	switch {
	case ph.kind == elf.PT_NOTE && p.noteEnd == 0 && ph.filesz > 0:
		p.noteStart = int64(min(ph.off, math.MaxInt64))
		p.noteEnd = int64(min(addLimited(ph.off, ph.filesz), math.MaxInt64))
	case ph.kind == elf.PT_LOAD && len(p.loads) < maxKept:
		if p.loads == nil {
			p.loads = make([]load, 0, min(p.headers.h.Segments, maxKept))
		}
		p.loads = append(p.loads, load{ph.vaddr, ph.off, ph.filesz, ph.flags&elf.PF_X != 0})
	}
}

func (p *Parser) headersDone() {
	h := p.headers.header()
	p.promised, p.order = h.PromisedSize, p.headers.order
	p.machine = machineOf(h)
	switch {
	case p.noteEnd == 0:
		p.noteEnd = p.headers.tableEnd()
		p.giveUp(nil)
	case p.noteStart < p.pos:
		p.noteEnd = p.pos
		p.giveUp(fmt.Errorf("the notes begin at %d, within the program headers", p.noteStart))
	case p.machine == nil:
		p.skip = p.noteEnd - p.pos
		p.gather(0, func(p *Parser, _ []byte) { p.giveUp(nil) })
	default:
		p.skip = p.noteStart - p.pos
		p.gather(0, (*Parser).nextNote)
	}
}
