// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package corefiletest makes ELF cores for tests.
package corefiletest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"math/rand/v2"
)

const (
	ehdrSize = 64
	phdrSize = 56
	notes    = 256
)

// Core gives a valid little-endian 64-bit core of the given length, at least MinSize, with one PT_NOTE and one PT_LOAD segment. The
// memory in it is pseudo-random, as incompressible as memory gets, and follows from seed.
func Core(size int, seed uint64) []byte {
	core := append(Header(int64(size)), make([]byte, size-MinSize)...)
	src := rand.NewChaCha8(seedOf(seed))
	_, _ = src.Read(core[MinSize:]) // never fails
	return core
}

// MinSize is the length of what precedes the memory in a core.
const MinSize = ehdrSize + 2*phdrSize + notes

// Header gives the first MinSize bytes of a core that promises to be size bytes long.
func Header(size int64) []byte {
	var b bytes.Buffer
	ident := [elf.EI_NIDENT]byte{elf.EI_CLASS: byte(elf.ELFCLASS64), elf.EI_DATA: byte(elf.ELFDATA2LSB), elf.EI_VERSION: byte(elf.EV_CURRENT)}
	copy(ident[:], elf.ELFMAG)
	write(&b, elf.Header64{
		Ident: ident, Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Phoff: ehdrSize, Ehsize: ehdrSize, Phentsize: phdrSize, Phnum: 2,
	})
	write(&b, elf.Prog64{Type: uint32(elf.PT_NOTE), Off: ehdrSize + 2*phdrSize, Filesz: notes, Align: 4})
	load := uint64(size - MinSize)
	write(&b, elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W), Off: MinSize, Vaddr: 0x400000, Filesz: load, Memsz: load, Align: 1})
	// One note of an unknown type fills the segment.
	write(&b, struct{ NameSize, DescSize, Type uint32 }{5, notes - 20, 0x7fff})
	b.WriteString("CORE\x00\x00\x00\x00")
	b.Write(make([]byte, MinSize-b.Len()))
	return b.Bytes()
}

func write(b *bytes.Buffer, v any) {
	if err := binary.Write(b, binary.LittleEndian, v); err != nil {
		panic(err) // only for a type without a fixed size
	}
}

func seedOf(n uint64) (seed [32]byte) {
	binary.LittleEndian.PutUint64(seed[:], n)
	return seed
}
