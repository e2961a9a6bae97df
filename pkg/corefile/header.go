// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package corefile understands ELF core files as far as a node handler needs it: whether a file is a core at all, and how
// long it promises to be. It reads a stream front to back, keeps a few hundred bytes, and trusts nothing in it.
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
	var buf [64]byte
	ident := buf[:identSize]
	if err := fill(r, ident); err != nil {
		return Header{}, err
	}
	h := Header{Class: elf.Class(ident[elf.EI_CLASS]), Data: elf.Data(ident[elf.EI_DATA])}
	l, known := layouts[h.Class]
	order := byteOrder(h.Data)
	switch {
	case string(ident[:len(elf.ELFMAG)]) != elf.ELFMAG:
		return h, fmt.Errorf("%w: it does not begin with the ELF magic number", ErrNotCore)
	case !known:
		return h, fmt.Errorf("%w: ELF class %d: must be 1 (32 bits) or 2 (64 bits)", ErrNotCore, h.Class)
	case order == nil:
		return h, fmt.Errorf("%w: ELF data encoding %d: must be 1 (little endian) or 2 (big endian)", ErrNotCore, h.Data)
	}
	ehdr := buf[:l.ehdr]
	if err := fill(r, ehdr[identSize:]); err != nil {
		return h, err
	}
	e := decodeEhdr(h.Class, order, ehdr)
	h.Machine = e.machine
	switch {
	case e.kind != elf.ET_CORE:
		return h, fmt.Errorf("%w: ELF type %d: must be %d (ET_CORE)", ErrNotCore, e.kind, elf.ET_CORE)
	case e.phoff != uint64(l.ehdr) || e.phentsize != l.phdr:
		// Every producer of cores puts the table right behind the header; anything else could not be read from a stream.
		return h, fmt.Errorf("%w: program headers of %d bytes at %d: must be %d bytes at %d", ErrNotCore, e.phentsize, e.phoff, l.phdr, l.ehdr)
	case e.phnum == 0:
		return h, fmt.Errorf("%w: no program headers", ErrNotCore)
	}
	return h, h.readSegments(r, order, l, e)
}

// readSegments reads the program headers one at a time.
func (h *Header) readSegments(r io.Reader, order binary.ByteOrder, l layout, e ehdr) error {
	end := uint64(0)
	h.Segments = e.phnum
	var buf [56]byte
	for i := 0; i < h.Segments; i++ {
		err := readFull(r, buf[:l.phdr])
		if err == io.ErrUnexpectedEOF {
			break // cut off: what follows at least is the rest of the table
		} else if err != nil {
			return err
		}
		p := decodePhdr(h.Class, order, buf[:l.phdr])
		if i == 0 && e.phnum == pnXNum {
			// The real number is in a section header, which Linux writes at the very end. But the first segment that Linux
			// writes are the notes, and they begin right behind the table.
			n := (p.off - uint64(l.ehdr)) / uint64(l.phdr)
			if p.kind != elf.PT_NOTE || p.off < uint64(l.ehdr) || n < pnXNum || n > maxSegments {
				return fmt.Errorf("%w: the number of program headers cannot be told", ErrNotCore)
			}
			h.Segments = int(n)
			end = addLimited(e.shoff, uint64(l.shdr))
		}
		if p.filesz > 0 {
			end = max(end, addLimited(p.off, p.filesz))
		}
	}
	end = max(end, uint64(l.ehdr)+uint64(h.Segments)*uint64(l.phdr))
	h.PromisedSize = int64(min(end, math.MaxInt64))
	return nil
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
	kind        elf.ProgType
	off, filesz uint64
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
		return phdr{elf.ProgType(o.Uint32(b)), o.Uint64(b[8:]), o.Uint64(b[32:])}
	}
	return phdr{elf.ProgType(o.Uint32(b)), uint64(o.Uint32(b[4:])), uint64(o.Uint32(b[16:]))}
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

// fill reads all of b, of what must be there for a file to be called a core.
func fill(r io.Reader, b []byte) error {
	err := readFull(r, b)
	if err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it is shorter than an ELF header", ErrNotCore)
	}
	return err
}

// readFull is io.ReadFull with one error for every early end.
func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
