// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package corefiletest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
)

// Process is a process as its core shows it, in the way of the kernel's fs/binfmt_elf.c. All is little endian and 64 bits.
type Process struct {
	Machine      elf.Machine // EM_X86_64 or EM_AARCH64
	Signal, Code int32
	Address      uint64
	PID          int64
	Comm         string
	// Phdr is AT_PHDR: an address in the executable.
	Phdr uint64
	// Threads begin with the one that crashed.
	Threads []Thread
	// Mappings are in the order of addresses.
	Mappings []Mapping
	// BySize orders the memory as kernel.core_sort_vma does.
	BySize bool
	// ManySegments says the number of program headers in the way of PN_XNUM, however many they are.
	ManySegments bool
	// State is the length of a further note for each thread, as NT_X86_XSTATE is.
	State int
}

// Thread is a thread of a Process.
type Thread struct {
	TID            int64
	PC, SP, FP, LR uint64
}

// Mapping is a mapping of a Process.
type Mapping struct {
	Start, Size uint64
	// Path is the mapped file, "" for none; Offset the place in it, a multiple of 4096.
	Path   string
	Offset uint64
	Exec   bool
	// Bytes are what the core has of it.
	Bytes []byte
}

// Build gives the core of p.
func Build(p Process) []byte {
	notes := p.notes()
	loads := slices.Clone(p.Mappings)
	if p.BySize {
		slices.SortStableFunc(loads, func(a, b Mapping) int { return len(a.Bytes) - len(b.Bytes) })
	}
	ident := [elf.EI_NIDENT]byte{elf.EI_CLASS: byte(elf.ELFCLASS64), elf.EI_DATA: byte(elf.ELFDATA2LSB), elf.EI_VERSION: byte(elf.EV_CURRENT)}
	copy(ident[:], elf.ELFMAG)
	segments := len(loads) + 1
	noteOff := uint64(ehdrSize + segments*phdrSize)
	memory := (noteOff + uint64(len(notes)) + 4095) &^ 4095

	var table bytes.Buffer
	write(&table, elf.Prog64{Type: uint32(elf.PT_NOTE), Off: noteOff, Filesz: uint64(len(notes)), Align: 4})
	off := memory
	for _, m := range loads {
		flags := elf.PF_R
		if m.Exec {
			flags |= elf.PF_X
		}
		write(&table, elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(flags), Off: off, Vaddr: m.Start, Filesz: uint64(len(m.Bytes)), Memsz: m.Size, Align: 4096})
		off += uint64(len(m.Bytes))
	}
	eh := elf.Header64{
		Ident: ident, Type: uint16(elf.ET_CORE), Machine: uint16(p.Machine), Version: uint32(elf.EV_CURRENT),
		Phoff: ehdrSize, Ehsize: ehdrSize, Phentsize: phdrSize, Phnum: uint16(segments),
	}
	if p.ManySegments || segments >= 0xffff {
		eh.Phnum, eh.Shoff = 0xffff, off
	}
	var b bytes.Buffer
	write(&b, eh)
	b.Write(table.Bytes())
	b.Write(notes)
	b.Write(make([]byte, int(memory)-b.Len()))
	for _, m := range loads {
		b.Write(m.Bytes)
	}
	if eh.Shoff != 0 {
		write(&b, elf.Section64{Size: 1, Info: uint32(segments)})
	}
	return b.Bytes()
}

// notes are the notes in the kernel's order: what is about the process follows the first thread.
func (p Process) notes() []byte {
	var b []byte
	for i, t := range p.Threads {
		b = note(b, "CORE", 1, p.prstatus(t)) // NT_PRSTATUS
		if i == 0 {
			b = note(b, "CORE", 3, p.prpsinfo())           // NT_PRPSINFO
			b = note(b, "CORE", 0x53494749, p.siginfo())   // NT_SIGINFO
			b = note(b, "CORE", 6, Words(3, p.Phdr, 0, 0)) // NT_AUXV
			b = note(b, "CORE", 0x46494c45, p.files())     // NT_FILE
		}
		if p.State > 0 {
			b = note(b, "LINUX", 0x202, make([]byte, p.State)) // NT_X86_XSTATE
		}
	}
	return b
}

func (p Process) prstatus(t Thread) []byte {
	const regs = 112
	d := make([]byte, 336)
	pc, sp, fp, lr := 16, 19, 4, 0
	if p.Machine == elf.EM_AARCH64 {
		d = make([]byte, 392)
		pc, sp, fp, lr = 32, 31, 29, 30
		binary.LittleEndian.PutUint64(d[regs+8*lr:], t.LR)
	}
	binary.LittleEndian.PutUint32(d, uint32(p.Signal))
	binary.LittleEndian.PutUint16(d[12:], uint16(p.Signal))
	binary.LittleEndian.PutUint32(d[32:], uint32(t.TID))
	for reg, v := range map[int]uint64{pc: t.PC, sp: t.SP, fp: t.FP} {
		binary.LittleEndian.PutUint64(d[regs+8*reg:], v)
	}
	return d
}

func (p Process) prpsinfo() []byte {
	d := make([]byte, 136)
	binary.LittleEndian.PutUint32(d[24:], uint32(p.PID))
	copy(d[40:55], p.Comm)
	return d
}

func (p Process) siginfo() []byte {
	d := make([]byte, 128)
	binary.LittleEndian.PutUint32(d, uint32(p.Signal))
	binary.LittleEndian.PutUint32(d[8:], uint32(p.Code))
	binary.LittleEndian.PutUint64(d[16:], p.Address)
	return d
}

func (p Process) files() []byte {
	var table []uint64
	var names []byte
	for _, m := range p.Mappings {
		if m.Path != "" {
			table = append(table, m.Start, m.Start+m.Size, m.Offset/4096)
			names = append(append(names, m.Path...), 0)
		}
	}
	return append(Words(append([]uint64{uint64(len(table) / 3), 4096}, table...)...), names...)
}

// note appends a note to b.
func note(b []byte, name string, kind uint32, desc []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(name)+1))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = padded(append(append(b, name...), 0))
	return padded(append(b, desc...))
}

func padded(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }

// Words gives 64-bit words as they lie in memory.
func Words(all ...uint64) []byte {
	var b []byte
	for _, w := range all {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// FilePage is the first page of an ELF file with the build id, of 20 bytes. The note lies in a PT_NOTE segment; with loose it lies in none, as the Go
// linker has it.
func FilePage(machine elf.Machine, id []byte, loose bool) []byte {
	var b bytes.Buffer
	ident := [elf.EI_NIDENT]byte{elf.EI_CLASS: byte(elf.ELFCLASS64), elf.EI_DATA: byte(elf.ELFDATA2LSB), elf.EI_VERSION: byte(elf.EV_CURRENT)}
	copy(ident[:], elf.ELFMAG)
	write(&b, elf.Header64{Ident: ident, Type: uint16(elf.ET_DYN), Machine: uint16(machine), Phoff: ehdrSize, Phentsize: phdrSize, Phnum: 1})
	const at = 0x200
	n := note(nil, "GNU", 3, id)
	ph := elf.Prog64{Type: uint32(elf.PT_NOTE), Off: at, Filesz: uint64(len(n))}
	if loose {
		ph.Off = 0x300
	}
	write(&b, ph)
	page := make([]byte, 4096)
	copy(page, b.Bytes())
	copy(page[at:], n)
	return page
}
