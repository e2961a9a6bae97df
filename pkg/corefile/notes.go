// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package corefile

import (
	"bytes"
	"debug/elf"
	"fmt"
	"math"
)

// Types of notes with the name CORE; see core(5), elf(5) and include/uapi/linux/elf.h.
const (
	ntPrstatus = 1
	ntPrpsinfo = 3
	ntAuxv     = 6
	ntSiginfo  = 0x53494749
	ntFile     = 0x46494c45
)

// maxThreads bounds the threads whose places are kept. All are counted.
const maxThreads = 1024

// noteHeader is the note that is being read: how long its description is, and where the next one begins.
type noteHeader struct {
	kind uint32
	desc uint64
	end  int64
}

// machine is where a machine's registers are in struct elf_prstatus: offsets in the description.
type machine struct {
	pc, sp, fp, lr int // lr is 0 where a call leaves the return address on the stack
	size           int
	// addressBits are those of a user space address; what is above them in a return address is its signature (PAC).
	addressBits uint
}

// prRegs is the offset of pr_reg in struct elf_prstatus of 64-bit machines; see include/linux/elfcore.h.
const prRegs = 112

// machineOf gives nil for a machine whose notes are not known here. See struct user_regs_struct in arch/x86/include/asm/user_64.h and
// struct user_pt_regs in arch/arm64/include/uapi/asm/ptrace.h.
func machineOf(h Header) *machine {
	reg := func(n int) int { return prRegs + 8*n }
	switch {
	case h.Class != elf.ELFCLASS64:
		return nil
	case h.Machine == elf.EM_X86_64 && h.Data == elf.ELFDATA2LSB:
		return &machine{pc: reg(16), sp: reg(19), fp: reg(4), size: reg(27), addressBits: 57}
	case h.Machine == elf.EM_AARCH64:
		return &machine{pc: reg(32), sp: reg(31), fp: reg(29), lr: reg(30), size: reg(34), addressBits: 48}
	}
	return nil
}

// process is what the notes say of the process and its threads.
type process struct {
	signal, code int32
	hasCode      bool
	address      uint64
	pid          int64
	comm         string
	regs         registers // of the crashing thread
	crashed      int64     // its id
	threads      int
	below        int // threads with a lower id
	others       []thread
	// phdr is where the program headers of the executable are in memory, entry its entry point; 0 where not known.
	phdr, entry uint64
	hasComm     bool
}

type registers struct{ pc, sp, fp, lr uint64 }

type thread struct {
	tid int64
	pc  uint64
}

// nextNote begins with the note at the present position, or ends the head.
func (p *Parser) nextNote([]byte) {
	if p.noteEnd-p.pos < 12 {
		p.skip = p.noteEnd - p.pos
		p.gather(0, (*Parser).notesDone)
		return
	}
	p.gather(12, (*Parser).noteHead)
}

// passTo goes on with next at the offset end.
func (p *Parser) passTo(end int64, next func(*Parser, []byte)) {
	p.skip = end - p.pos
	p.gather(0, next)
}

func (p *Parser) noteHead(b []byte) {
	o := p.order
	name, desc, kind := uint64(o.Uint32(b)), uint64(o.Uint32(b[4:])), o.Uint32(b[8:])
	pad := func(n uint64) uint64 { return (n + 3) &^ 3 }
	p.note = noteHeader{kind, desc, p.pos + int64(pad(name)+pad(desc))} // less than 2^34 more
	if left := uint64(p.noteEnd - p.pos); pad(name)+desc > left {
		p.fail(fmt.Errorf("the note at %d has %d bytes: %d are left", p.pos-12, pad(name)+desc, left))
		return
	}
	p.note.end = min(p.note.end, p.noteEnd) // the padding of the last one may be missing
	const core = len("CORE\x00")
	if name != uint64(core) || !p.wanted(kind, desc) {
		p.passTo(p.note.end, (*Parser).nextNote)
		return
	}
	p.gather(8, (*Parser).noteName)
}

// wanted tells the notes that are looked at; of those that should be there once, the first.
func (p *Parser) wanted(kind uint32, desc uint64) bool {
	switch kind {
	case ntPrstatus:
		return desc >= uint64(p.machine.size)
	case ntPrpsinfo:
		return desc >= 136 && !p.process.hasComm
	case ntSiginfo:
		return desc >= 24 && !p.process.hasCode
	case ntAuxv:
		return p.process.phdr == 0
	case ntFile:
		return desc >= 16 && !p.mappings.seen
	}
	return false
}

func (p *Parser) noteName(b []byte) {
	switch {
	case string(b[:5]) != "CORE\x00":
		p.passTo(p.note.end, (*Parser).nextNote)
	case p.note.kind == ntFile:
		p.gather(16, (*Parser).fileHead)
	default:
		p.gather(int(min(p.note.desc, scratch)), (*Parser).noteDesc)
	}
}

// noteDesc takes the description of a note, or its first scratch bytes.
func (p *Parser) noteDesc(b []byte) {
	o, pr := p.order, &p.process
	switch p.note.kind {
	case ntPrstatus:
		p.threadStatus(b)
	case ntPrpsinfo:
		pr.pid, pr.hasComm = int64(int32(o.Uint32(b[24:]))), true
		comm, _, _ := bytes.Cut(b[40:56], []byte{0})
		pr.comm = string(comm)
	case ntSiginfo:
		pr.signal, pr.code, pr.hasCode = int32(o.Uint32(b)), int32(o.Uint32(b[8:])), true
		pr.address = o.Uint64(b[16:])
	case ntAuxv:
		const atPhdr, atEntry = 3, 9 // getauxval(3)
		for ; len(b) >= 16; b = b[16:] {
			switch o.Uint64(b) {
			case atPhdr:
				pr.phdr = o.Uint64(b[8:])
			case atEntry:
				pr.entry = o.Uint64(b[8:])
			}
		}
	}
	p.passTo(p.note.end, (*Parser).nextNote)
}

// threadStatus takes a struct elf_prstatus. The first one is that of the thread that crashed: nothing else in a core says which it was.
func (p *Parser) threadStatus(b []byte) {
	o, pr, m := p.order, &p.process, p.machine
	tid, pc := int64(int32(o.Uint32(b[32:]))), o.Uint64(b[m.pc:])
	pr.threads++
	if pr.threads == 1 {
		pr.crashed = tid
		pr.regs = registers{pc: pc, sp: o.Uint64(b[m.sp:]), fp: o.Uint64(b[m.fp:])}
		if m.lr > 0 {
			pr.regs.lr = o.Uint64(b[m.lr:])
		}
		if !pr.hasCode {
			pr.signal = int32(int16(o.Uint16(b[12:])))
		}
		return
	}
	if tid < pr.crashed {
		pr.below++
	}
	if len(pr.others) < maxThreads-1 {
		pr.others = append(pr.others, thread{tid, pc})
	}
}

// fail notes what is wrong with the notes and passes over the rest of them.
func (p *Parser) fail(err error) {
	p.err = err
	p.passTo(p.noteEnd, (*Parser).notesDone)
}

// notesDone ends the head and plans what is to be taken of the memory.
func (p *Parser) notesDone([]byte) {
	p.regions.plan(p.pos, p.loads, &p.mappings, p.process.regs)
	p.giveUp(nil)
}

// stackWindow is how much of the stack of the crashing thread is taken, in bytes.
const stackWindow = 64 << 10

// stripped is an address without what may be in the bits above it.
func (m *machine) stripped(a uint64) uint64 { return a & (math.MaxUint64 >> (64 - m.addressBits)) }
