// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package corefile understands ELF core files as far as it goes without a debugger and without the whole file: ReadHeader tells
// whether a file is a core at all and how long it promises to be, Parser what crashed, why, and where. Both read front to back, in bounded
// memory, and trust nothing in the bytes.
package corefile

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// ErrNotCore is the kind of the errors of ReadHeader that tell that the bytes are no ELF core. Other errors are the reader's own.
var ErrNotCore = errors.New("not an ELF core")

// Header is what the ELF header and the program headers of a core say. See elf(5) and core(5).
type Header struct {
	Class   elf.Class
	Data    elf.Data
	Machine elf.Machine
	// Segments is the number of program headers.
	Segments int
	// PromisedSize is the length in bytes of the complete file: where the last segment ends. Of a file that ends within
	// its program headers it is a lower bound, which is longer than the file.
	PromisedSize int64
}

const (
	identSize = elf.EI_NIDENT
	// pnXNum in e_phnum says that the number of program headers did not fit; see elf(5).
	pnXNum = 0xffff
	// maxSegments bounds the work: the kernel allows a process 65,530 mappings by default (vm.max_map_count).
	maxSegments = 1 << 20
)

// layout holds the sizes that differ between the classes.
type layout struct {
	ehdr, phdr, shdr int
}

var layouts = map[elf.Class]layout{
	elf.ELFCLASS32: {ehdr: 52, phdr: 32, shdr: 40},
	elf.ELFCLASS64: {ehdr: 64, phdr: 56, shdr: 64},
}

// ReadHeader reads the headers of a core from its first byte on, and not a byte more. Its error is of kind ErrNotCore where the bytes
// cannot be the beginning of a core; a core that is cut off within its program headers is still one.
func ReadHeader(r io.Reader) (Header, error) {
	var d decoder
	var buf [64]byte
	for n := d.next(); n > 0; n = d.next() {
		_, err := io.ReadFull(r, buf[:n])
		switch cut := err == io.EOF || err == io.ErrUnexpectedEOF; {
		case cut && d.inTable():
			return d.header(), nil // what follows at least is the rest of the table
		case cut:
			return d.h, fmt.Errorf("%w: it is shorter than an ELF header", ErrNotCore)
		case err != nil:
			return d.h, err
		}
		if _, err := d.step(buf[:n]); err != nil {
			return d.h, err
		}
	}
	return d.header(), nil
}

// decoder understands the headers piece by piece: what feeds it gives step as many bytes as next asks for, until that is 0.
type decoder struct {
	h     Header
	l     layout
	order binary.ByteOrder // nil until the identification has been read
	e     ehdr
	first [identSize]byte
	seen  int    // program headers
	end   uint64 // of the segments seen
}

// next is the length of the next piece in bytes, at most 64; 0 where all is read.
func (d *decoder) next() int {
	switch {
	case d.order == nil:
		return identSize
	case d.h.Segments == 0:
		return d.l.ehdr - identSize
	case d.seen < d.h.Segments:
		return d.l.phdr
	}
	return 0
}

// inTable is true once the ELF header has been read, so that program headers follow.
func (d *decoder) inTable() bool { return d.h.Segments > 0 }

// step takes a piece. Where that is a program header it returns it. Its errors are of kind ErrNotCore, and end the decoding.
func (d *decoder) step(b []byte) (*phdr, error) {
	switch {
	case d.order == nil:
		return nil, d.ident(b)
	case !d.inTable():
		return nil, d.elfHeader(b)
	}
	return d.programHeader(b)
}

func (d *decoder) ident(b []byte) error {
	d.h = Header{Class: elf.Class(b[elf.EI_CLASS]), Data: elf.Data(b[elf.EI_DATA])}
	l, known := layouts[d.h.Class]
	order := byteOrder(d.h.Data)
	switch {
	case string(b[:len(elf.ELFMAG)]) != elf.ELFMAG:
		return fmt.Errorf("%w: it does not begin with the ELF magic number", ErrNotCore)
	case !known:
		return fmt.Errorf("%w: ELF class %d: must be 1 (32 bits) or 2 (64 bits)", ErrNotCore, d.h.Class)
	case order == nil:
		return fmt.Errorf("%w: ELF data encoding %d: must be 1 (little endian) or 2 (big endian)", ErrNotCore, d.h.Data)
	}
	d.l, d.order = l, order
	copy(d.first[:], b)
	return nil
}

func (d *decoder) elfHeader(b []byte) error {
	e := decodeEhdr(d.h.Class, d.order, append(d.first[:], b...))
	d.e, d.h.Machine = e, e.machine
	switch {
	case e.kind != elf.ET_CORE:
		return fmt.Errorf("%w: ELF type %d: must be %d (ET_CORE)", ErrNotCore, e.kind, elf.ET_CORE)
	case e.phoff != uint64(d.l.ehdr) || e.phentsize != d.l.phdr:
		// Every producer of cores puts the table right behind the header; anything else could not be read from a stream.
		return fmt.Errorf("%w: program headers of %d bytes at %d: must be %d bytes at %d", ErrNotCore, e.phentsize, e.phoff, d.l.phdr, d.l.ehdr)
	case e.phnum == 0:
		return fmt.Errorf("%w: no program headers", ErrNotCore)
	}
	d.h.Segments = e.phnum
	return nil
}

func (d *decoder) programHeader(b []byte) (*phdr, error) {
	p := decodePhdr(d.h.Class, d.order, b)
	if d.seen == 0 && d.e.phnum == pnXNum {
		// The real number is in a section header, which Linux writes at the very end. But the first segment that Linux
		// writes are the notes, and they begin right behind the table.
		ehdr, size := uint64(d.l.ehdr), uint64(d.l.phdr)
		n := (p.off - ehdr) / size
		if p.kind != elf.PT_NOTE || p.off < ehdr || n < pnXNum || n > maxSegments {
			return nil, fmt.Errorf("%w: the number of program headers cannot be told", ErrNotCore)
		}
		d.h.Segments = int(n)
		d.end = addLimited(d.e.shoff, uint64(d.l.shdr))
	}
	d.seen++
	if p.filesz > 0 {
		d.end = max(d.end, addLimited(p.off, p.filesz))
	}
	return &p, nil
}

// tableEnd is the offset behind the program headers.
func (d *decoder) tableEnd() int64 { return int64(d.l.ehdr) + int64(d.h.Segments)*int64(d.l.phdr) }

// header is what the pieces so far say, and at least as long as the table.
func (d *decoder) header() Header {
	d.h.PromisedSize = int64(min(max(d.end, uint64(d.tableEnd())), math.MaxInt64))
	return d.h
}

// addLimited adds without running over.
func addLimited(a, b uint64) uint64 {
	if a+b < a {
		return math.MaxUint64
	}
	return a + b
}

// ehdr and phdr are the fields of interest of the ELF header and of a program header, whatever the class.
type ehdr struct {
	kind             elf.Type
	machine          elf.Machine
	phoff, shoff     uint64
	phentsize, phnum int
}

type phdr struct {
	kind               elf.ProgType
	flags              elf.ProgFlag
	off, vaddr, filesz uint64
}

func decodeEhdr(c elf.Class, o binary.ByteOrder, b []byte) ehdr {
	e := ehdr{kind: elf.Type(o.Uint16(b[16:])), machine: elf.Machine(o.Uint16(b[18:]))}
	if c == elf.ELFCLASS64 {
		e.phoff, e.shoff = o.Uint64(b[32:]), o.Uint64(b[40:])
		e.phentsize, e.phnum = int(o.Uint16(b[54:])), int(o.Uint16(b[56:]))
		return e
	}
	e.phoff, e.shoff = uint64(o.Uint32(b[28:])), uint64(o.Uint32(b[32:]))
	e.phentsize, e.phnum = int(o.Uint16(b[42:])), int(o.Uint16(b[44:]))
	return e
}

func decodePhdr(c elf.Class, o binary.ByteOrder, b []byte) phdr {
	if c == elf.ELFCLASS64 {
		return phdr{elf.ProgType(o.Uint32(b)), elf.ProgFlag(o.Uint32(b[4:])), o.Uint64(b[8:]), o.Uint64(b[16:]), o.Uint64(b[32:])}
	}
	return phdr{
		elf.ProgType(o.Uint32(b)), elf.ProgFlag(o.Uint32(b[24:])),
		uint64(o.Uint32(b[4:])), uint64(o.Uint32(b[8:])), uint64(o.Uint32(b[16:])),
	}
}

func byteOrder(d elf.Data) binary.ByteOrder {
	switch d {
	case elf.ELFDATA2LSB:
		return binary.LittleEndian
	case elf.ELFDATA2MSB:
		return binary.BigEndian
	}
	return nil
}
