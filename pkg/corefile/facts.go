// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package corefile

import (
	"cmp"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"slices"
	"syscall"
)

const (
	// MaxFrames bounds Facts.Frames.
	MaxFrames = 8
	// maxModules bounds Facts.Modules.
	maxModules = 1024
)

// Facts are what a core says of a crash. Whatever is not known is zero. Texts are as they are in the core: the process controls them.
type Facts struct {
	Class   elf.Class
	Data    elf.Data
	Machine elf.Machine
	// PromisedSize is the length in bytes that the headers promise.
	PromisedSize int64

	// Signal is what ended the process, Code its si_code and Meaning that in words; see sigaction(2). HasCode is false where the core does not say
	// the code.
	Signal  int32
	Code    int32
	HasCode bool
	Meaning string
	// Address is the fault address; meaningless unless HasAddress, which signals that somebody sent have not.
	Address    uint64
	HasAddress bool

	// PID and TID are ids in the process's own PID namespace, TID that of the crashing thread. Comm is the name of the first
	// thread, at most 15 bytes.
	PID, TID int64
	Comm     string
	// Executable is the path of the program's file as the process saw it.
	Executable string
	// Threads is the number of threads, Rank the place of the crashing one among them by id, from 1 on.
	Threads, Rank int

	// Frames are the innermost calls of the crashing thread, the place of the crash first; what follows are return addresses as the chain of
	// frame pointers gives them, at most MaxFrames in all. Code that was compiled without frame pointers is missing among them.
	Frames []Place
	// Others are where the other threads were, in the order of the core, at most 1023.
	Others []ThreadPlace
	// Modules are mapped files with code: the executable first, then the one of the crash, then by address; at most 1024.
	Modules []Module
}

// Place is an address in the code.
type Place struct {
	Address uint64
	// Module is the path of the file that is mapped there, Offset the place in that file, BuildID its GNU build id in hex.
	Module  string
	Offset  uint64
	BuildID string
}

// ThreadPlace is where a thread was.
type ThreadPlace struct {
	TID int64
	Place
}

// Module is a file that was mapped into the process.
type Module struct {
	Path    string
	BuildID string // GNU build id in hex
	Start   uint64 // address of its first mapping
}

// Facts tells what is known so far; it is complete after the last byte. The caller owns what it gets.
func (p *Parser) Facts() Facts {
	if !p.headers.inTable() {
		return Facts{}
	}
	pr, h := &p.process, p.headers.h
	f := Facts{
		Class: h.Class, Data: h.Data, Machine: h.Machine, PromisedSize: p.promised,
		Signal: pr.signal, Code: pr.code, HasCode: pr.hasCode,
		PID: pr.pid, TID: pr.crashed, Comm: pr.comm,
	}
	if pr.hasCode {
		f.Meaning = CodeMeaning(pr.signal, pr.code)
		f.HasAddress = hasAddress(pr.signal, pr.code)
	}
	if f.HasAddress {
		f.Address = pr.address
	}
	if pr.threads == 0 {
		return f
	}
	f.Threads = pr.threads
	if p.HeadDone() {
		f.Rank = pr.below + 1
	}
	for _, a := range p.frames() {
		f.Frames = append(f.Frames, p.mappings.place(a))
	}
	for _, t := range pr.others {
		f.Others = append(f.Others, ThreadPlace{t.tid, p.mappings.place(t.pc)})
	}
	if exe := p.executable(); exe != nil {
		f.Executable = exe.path
	}
	f.Modules = p.modules()
	return f
}

// executable is the file that the kernel started. The auxiliary vector says where it is; nil where that is not known.
func (p *Parser) executable() *file {
	if f := p.mappings.fileAt(p.process.phdr); f != nil {
		return f
	}
	return p.mappings.fileAt(p.process.entry)
}

func (m *mappings) place(a uint64) Place {
	at := m.at(a)
	if at == nil || at.file < 0 {
		return Place{Address: a}
	}
	f := &m.files[at.file]
	return Place{Address: a, Module: f.path, Offset: a - at.start + at.off, BuildID: f.buildID}
}

func (p *Parser) modules() []Module {
	var found []*file
	for i := range p.mappings.files {
		if f := &p.mappings.files[i]; f.code || f.elf {
			found = append(found, f)
		}
	}
	exe, crash := p.executable(), p.mappings.fileAt(p.process.regs.pc)
	rank := func(f *file) int {
		switch f {
		case exe:
			return 0
		case crash:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(found, func(a, b *file) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.start, b.start))
	})
	var all []Module
	for _, f := range found[:min(len(found), maxModules)] {
		all = append(all, Module{f.path, f.buildID, f.start})
	}
	return all
}

// Site identifies the place of the crash, once HeadDone: 16 hex digits of a hash over the path of the executable, the signal, and
// the module and the offset in it of the instruction that crashed. It is equal for crashes at the same place, wherever in memory that was, and "" where the place is
// not known or in no file. Of a signal that the process sent to itself, as abort(3) does, the place is in the C library, whoever called it:
// all of those in one program are one site.
func (p *Parser) Site() string {
	pr := &p.process
	if !p.HeadDone() || pr.threads == 0 {
		return ""
	}
	exe, at := p.executable(), p.mappings.place(pr.regs.pc)
	if exe == nil || at.Module == "" {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%s\x00%x", exe.path, pr.signal, at.Module, at.Offset))
	return hex.EncodeToString(sum[:8])
}

// hasAddress tells the signals that faults raise from those that somebody sent; only then is si_addr one.
func hasAddress(signal, code int32) bool {
	switch syscall.Signal(signal) {
	case syscall.SIGILL, syscall.SIGFPE, syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGTRAP:
		return code > 0 && code != siKernel
	}
	return false
}
