// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package corefile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"example.io/coredump/pkg/corefile/corefiletest"
)

var (
	exeID = bytes.Repeat([]byte{0xe1}, 20)
	libID = bytes.Repeat([]byte{0x1b}, 20)
)

const (
	exeBase, libBase = 0x55d000000000, 0x7f1000000000
	stackBase        = 0x7ffd00000000
)

// server is a process of 14 threads; the third of them by id crashed in /app/server. Three calls led there: one within it, one from
// the library, one more.
func server(machine elf.Machine) corefiletest.Process {
	page := func(id []byte, loose bool) []byte { return corefiletest.FilePage(machine, id, loose) }
	const sp = stackBase + 0x800
	st := make([]byte, 0x2000)
	put := func(at uint64, w ...uint64) { copy(st[at-stackBase:], corefiletest.Words(w...)) }
	put(sp+0x10, sp+0x40, exeBase+0x1f00)
	put(sp+0x40, sp+0x90, libBase+0x2100)
	put(sp+0x90, sp+0x100, exeBase+0x1100)
	put(sp+0x100, 0, 0x1234)
	p := corefiletest.Process{
		Machine: machine, Signal: 11, Code: 1, Address: 8, PID: 100, Comm: "server", Phdr: exeBase + 0x40,
		Threads: []corefiletest.Thread{{TID: 102, PC: exeBase + 0x1f2c, SP: sp, FP: sp + 0x10, LR: exeBase + 0x1f10}},
		Mappings: []corefiletest.Mapping{
			{Start: exeBase, Size: 0x1000, Path: "/app/server", Bytes: page(exeID, false)},
			{Start: exeBase + 0x1000, Size: 0x1000, Path: "/app/server", Offset: 0x1000, Exec: true},
			{Start: exeBase + 0x2000, Size: 0x1000, Path: "/app/server", Offset: 0x2000, Bytes: make([]byte, 0x1000)},
			{Start: libBase - 0x10000, Size: 0x4000, Path: "/usr/lib/locale/locale-archive"},
			{Start: libBase, Size: 0x1000, Path: "/lib/libc.so.6", Bytes: page(libID, true)},
			{Start: libBase + 0x1000, Size: 0x3000, Path: "/lib/libc.so.6", Offset: 0x1000, Exec: true},
			{Start: stackBase, Size: uint64(len(st)), Bytes: st},
		},
		State: 100,
	}
	for tid := range int64(14) {
		if tid != 2 {
			p.Threads = append(p.Threads, corefiletest.Thread{TID: 100 + tid, PC: libBase + 0x1000 + uint64(tid)})
		}
	}
	return p
}

func parsed(core []byte) *Parser {
	p := NewParser()
	_, _ = p.Write(core)
	return p
}

var machines = []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64}

func TestACoreTellsTheCrash(t *testing.T) {
	for _, machine := range machines {
		core := corefiletest.Build(server(machine))
		p := parsed(core)
		f := p.Facts()
		exe, lib := hex.EncodeToString(exeID), hex.EncodeToString(libID)
		want := Facts{
			Class: elf.ELFCLASS64, Data: elf.ELFDATA2LSB, Machine: machine, PromisedSize: int64(len(core)),
			Signal: 11, Code: 1, HasCode: true, Meaning: "address not mapped", Address: 8, HasAddress: true,
			PID: 100, TID: 102, Comm: "server", Executable: "/app/server", Threads: 14, Rank: 3,
			Frames: []Place{
				{exeBase + 0x1f2c, "/app/server", 0x1f2c, exe},
				{exeBase + 0x1f00, "/app/server", 0x1f00, exe},
				{libBase + 0x2100, "/lib/libc.so.6", 0x2100, lib},
				{exeBase + 0x1100, "/app/server", 0x1100, exe},
			},
			Others:  f.Others,
			Modules: []Module{{"/app/server", exe, exeBase}, {"/lib/libc.so.6", lib, libBase}},
		}
		if !reflect.DeepEqual(f, want) {
			t.Errorf("%v:\n%+v, must be\n%+v", machine, f, want)
		}
		if len(f.Others) != 13 || f.Others[12] != (ThreadPlace{113, Place{libBase + 0x1000 + 13, "/lib/libc.so.6", 0x1000 + 13, lib}}) {
			t.Errorf("%+v", f.Others)
		}
		if p.Err() != nil || !p.HeadDone() || p.HeadEnd() >= int64(len(core)) || len(p.Site()) != 16 {
			t.Errorf("%v, head to %d, site %q", p.Err(), p.HeadEnd(), p.Site())
		}
	}
}

func TestHowTheStreamIsCutMakesNoDifference(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, machine := range machines {
		core := corefiletest.Build(server(machine))
		whole := parsed(core)
		for range 200 {
			p := NewParser()
			most := 1 + r.IntN(9000)
			for rest := core; len(rest) > 0; {
				n := min(r.IntN(most+1), len(rest))
				before := p.HeadDone()
				if m, err := p.Write(rest[:n]); m != n || err != nil {
					t.Fatal(m, err)
				}
				rest = rest[n:]
				if at := int64(len(core) - len(rest)); p.HeadDone() != (at >= p.HeadEnd() && p.HeadEnd() > 0) {
					t.Fatalf("head done at %d: %v, was %v, ends at %d", at, p.HeadDone(), before, p.HeadEnd())
				}
			}
			if !reflect.DeepEqual(p.Facts(), whole.Facts()) || p.Site() != whole.Site() || p.PromisedSize() != whole.PromisedSize() {
				t.Fatalf("%+v\n%+v", p.Facts(), whole.Facts())
			}
		}
	}
}

func TestOtherOrdersOfTheMemoryAndManySegmentsMakeNoDifference(t *testing.T) {
	plain := server(elf.EM_X86_64)
	want := parsed(corefiletest.Build(plain)).Facts()
	sorted, many := plain, plain
	sorted.BySize = true
	if got := parsed(corefiletest.Build(sorted)).Facts(); !reflect.DeepEqual(got, want) {
		t.Errorf("by size:\n%+v, must be\n%+v", got, want)
	}
	for i := range 70_000 {
		many.Mappings = append(many.Mappings, corefiletest.Mapping{Start: stackBase + 0x100000 + uint64(i)*0x1000, Size: 0x1000})
	}
	core := corefiletest.Build(many)
	want.PromisedSize = int64(len(core))
	if p := parsed(core); !reflect.DeepEqual(p.Facts(), want) || p.Err() != nil {
		t.Errorf("PN_XNUM: %v\n%+v, must be\n%+v", p.Err(), p.Facts(), want)
	}
}

func TestACallThroughABadPointerHasItsCaller(t *testing.T) {
	for _, machine := range machines {
		s := server(machine)
		s.Threads[0].PC = 0
		copy(s.Mappings[6].Bytes[0x800:], corefiletest.Words(exeBase+0x1f10))
		f := parsed(corefiletest.Build(s)).Facts()
		if len(f.Frames) != 5 || f.Frames[0] != (Place{}) || f.Frames[1].Offset != 0x1f10 || f.Frames[2].Offset != 0x1f00 {
			t.Errorf("%v: %+v", machine, f.Frames)
		}
	}
}

func TestASignedReturnAddressIsRead(t *testing.T) {
	s := server(elf.EM_AARCH64)
	copy(s.Mappings[6].Bytes[0x818:], corefiletest.Words(exeBase+0x1f00|0x2b<<48))
	if f := parsed(corefiletest.Build(s)).Facts(); len(f.Frames) != 4 || f.Frames[1].Address != exeBase+0x1f00 {
		t.Errorf("%+v", f.Frames)
	}
}

func TestImplausibleFramesEndTheWalk(t *testing.T) {
	for name, frame := range map[string][]uint64{
		"back":           {stackBase + 0x810, exeBase + 0x1f00},
		"data":           {stackBase + 0x840, exeBase + 0x2100},
		"no file":        {stackBase + 0x840, stackBase + 0x900},
		"outside":        {1 << 40, exeBase + 0x1f00},
		"not aligned":    {stackBase + 0x841, exeBase + 0x1f00},
		"end of address": {math.MaxUint64 - 7, exeBase + 0x1f00},
	} {
		s := server(elf.EM_X86_64)
		copy(s.Mappings[6].Bytes[0x810:], corefiletest.Words(frame...))
		if f := parsed(corefiletest.Build(s)).Facts(); len(f.Frames) > 2 {
			t.Errorf("%s: %+v", name, f.Frames)
		}
	}
}

func TestASignalThatSomebodySentHasNoAddress(t *testing.T) {
	for _, code := range []int32{0, -1, -6, 0x80} {
		s := server(elf.EM_X86_64)
		s.Code, s.Address = code, 0x3e800000064
		if f := parsed(corefiletest.Build(s)).Facts(); f.HasAddress || f.Address != 0 || f.Meaning == "" {
			t.Errorf("%+v", f)
		}
	}
}

func TestOtherMachinesTellWhatTheirHeadersSay(t *testing.T) {
	core := corefiletest.Build(server(elf.EM_X86_64))
	binary.LittleEndian.PutUint16(core[18:], uint16(elf.EM_S390))
	p := parsed(core)
	if f := p.Facts(); p.Err() != nil || !p.HeadDone() || f.Machine != elf.EM_S390 || f.PromisedSize != int64(len(core)) || f.Signal != 0 || p.Site() != "" {
		t.Errorf("%v: %+v", p.Err(), f)
	}
	var b bytes.Buffer
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS32), byte(elf.ELFDATA2MSB), 1}
	must(t, binary.Write(&b, binary.BigEndian, elf.Header32{Ident: ident, Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_PPC), Phoff: 52, Phentsize: 32, Phnum: 1}))
	must(t, binary.Write(&b, binary.BigEndian, elf.Prog32{Type: uint32(elf.PT_LOAD), Off: 4096, Filesz: 8192}))
	if p := parsed(b.Bytes()); p.Err() != nil || !p.HeadDone() || p.PromisedSize() != 12288 || p.Facts().Machine != elf.EM_PPC || p.HeadEnd() != 52+32 {
		t.Errorf("%v: %+v", p.Err(), p.Facts())
	}
}

func TestWhatIsNoCoreIsSaidAndTheRestPasses(t *testing.T) {
	for _, b := range [][]byte{bytes.Repeat([]byte("no core\n"), 1000), append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 1000)...)} {
		p := parsed(b)
		if !errors.Is(p.Err(), ErrNotCore) || !p.HeadDone() || p.HeadEnd() != 0 || p.PromisedSize() != 0 || !reflect.DeepEqual(p.Facts(), Facts{}) {
			t.Errorf("%v: %+v", p.Err(), p.Facts())
		}
		if n, err := p.Write(b); n != len(b) || err != nil {
			t.Error(n, err)
		}
	}
}

func TestMalformedNotesAreSaidAndWhatIsRightIsKept(t *testing.T) {
	good := corefiletest.Build(server(elf.EM_X86_64))
	notes := 64 + 8*56
	change := func(at int, v uint32) []byte {
		b := bytes.Clone(good)
		binary.LittleEndian.PutUint32(b[at:], v)
		return b
	}
	file := bytes.Index(good, []byte("ELIFCORE\x00")) - 8
	for name, b := range map[string][]byte{
		"a note past the end":   change(notes+20+336+4, 1<<30),
		"too many mappings":     change(file+20, 1<<20),
		"notes in the headers":  change(64+8, 70),
		"a name of 4 GiB":       change(notes+20+336, math.MaxUint32),
		"a first note too long": change(notes+4, math.MaxUint32),
	} {
		p := parsed(b)
		if p.Err() == nil || errors.Is(p.Err(), ErrNotCore) || !p.HeadDone() || p.PromisedSize() == 0 {
			t.Errorf("%s: %v", name, p.Err())
		}
		if f := p.Facts(); name == "a note past the end" && (f.Signal != 11 || f.TID != 102) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestACoreThatEndsEarlyTellsWhatItHas(t *testing.T) {
	core := corefiletest.Build(server(elf.EM_X86_64))
	for n := range core {
		p := parsed(core[:n])
		f := p.Facts()
		if p.Err() != nil || n >= 512+20+336 && f.TID != 102 || p.HeadDone() && (f.Executable != "/app/server" || f.Rank != 3) {
			t.Fatalf("%d bytes: %v: %+v", n, p.Err(), f)
		}
	}
}

func TestP8_ANoteBombIsReadInBoundedMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("builds 100 MiB")
	}
	s := server(elf.EM_X86_64)
	s.State = 2000
	for i := range 65_000 {
		path := fmt.Sprintf("/%s/%d", strings.Repeat("a", 1000), i)
		s.Mappings = append(s.Mappings, corefiletest.Mapping{Start: stackBase + 0x100000 + uint64(i)*0x1000, Size: 0x1000, Path: path, Exec: true})
	}
	for i := range int64(30_000) {
		s.Threads = append(s.Threads, corefiletest.Thread{TID: 1000 + i, PC: stackBase + 0x100000 + uint64(i)*0x1000})
	}
	core := corefiletest.Build(s)
	var p *Parser
	allocated, kept := cost(func() any { p = parsed(core); return p })
	f := p.Facts()
	if f.Threads != 30_014 || f.Rank != 3 || len(f.Others) != maxThreads-1 || len(f.Modules) > maxModules || f.Executable != "/app/server" || len(f.Frames) != 4 || p.Err() != nil {
		t.Errorf("%v: %d threads, %d others, %d modules, %+v", p.Err(), f.Threads, len(f.Others), len(f.Modules), f.Frames)
	}
	if allocated > 32<<20 || kept > 16<<20 {
		t.Errorf("allocated %d bytes and kept %d of notes of %d MiB", allocated, kept, p.HeadEnd()>>20)
	}
	runtime.KeepAlive(core)
	t.Logf("allocated %d KiB, kept %d KiB, of notes of %d MiB", allocated>>10, kept>>10, p.HeadEnd()>>20)
}

func TestP8_WhatTheHeadersClaimAllocatesNothingLarge(t *testing.T) {
	core := corefiletest.Build(server(elf.EM_X86_64))
	binary.LittleEndian.PutUint16(core[56:], 0xffff)
	binary.LittleEndian.PutUint64(core[64+8:], 64+56*maxSegments) // the notes begin behind a million segments
	if allocated, kept := cost(func() any { return parsed(core) }); allocated > 6<<20 || kept > 6<<20 {
		t.Errorf("allocated %d, kept %d", allocated, kept)
	}
	runtime.KeepAlive(core)
}

func TestP8_OneNoteOfManyMegabytesIsNotKept(t *testing.T) {
	const size = 64 << 20
	core := corefiletest.Build(server(elf.EM_X86_64))
	o := binary.LittleEndian
	auxv := bytes.Index(core, append(o.AppendUint32(nil, ntAuxv), "CORE\x00"...)) - 4
	o.PutUint32(core[auxv:], size)
	o.PutUint64(core[64+32:], size+uint64(len(core))) // the first segment are the notes
	core = append(core[:auxv+4+4+8], make([]byte, size)...)
	allocated, kept := cost(func() any { return parsed(core) })
	if allocated > 1<<20 || kept > 1<<20 {
		t.Errorf("allocated %d, kept %d", allocated, kept)
	}
	runtime.KeepAlive(core)
}

func TestP8_AMillionSegmentsAreNotKept(t *testing.T) {
	o := binary.LittleEndian
	core := corefiletest.Build(server(elf.EM_X86_64))[:64+56]
	o.PutUint16(core[56:], 0xffff)
	o.PutUint64(core[64+8:], 64+56*maxSegments)
	segment := make([]byte, 56)
	o.PutUint32(segment, uint32(elf.PT_LOAD))
	o.PutUint64(segment[32:], 4096)
	core = append(core, bytes.Repeat(segment, maxSegments-1)...)
	if _, kept := cost(func() any { return parsed(core) }); kept > 6<<20 {
		t.Errorf("kept %d", kept)
	}
	runtime.KeepAlive(core)
}

func TestAnOrdinaryCoreCostsLittle(t *testing.T) {
	core := corefiletest.Build(server(elf.EM_X86_64))
	if allocated, kept := cost(func() any { return parsed(core) }); allocated > 200<<10 || kept > 200<<10 {
		t.Errorf("allocated %d, kept %d", allocated, kept)
	}
	runtime.KeepAlive(core)
}

// cost is what f allocates and what its result keeps, in bytes.
func cost(f func() any) (allocated, kept int64) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	result := f()
	runtime.ReadMemStats(&after)
	allocated = int64(after.TotalAlloc - before.TotalAlloc)
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(result)
	return allocated, int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

func TestP9_AnEvilFirstPageIsReadWithoutHarm(t *testing.T) {
	evil := func(change func(page []byte)) []byte {
		page := corefiletest.FilePage(elf.EM_X86_64, exeID, false)
		change(page)
		return page
	}
	o := binary.LittleEndian
	for name, page := range map[string][]byte{
		"a note of 4 GiB":            evil(func(b []byte) { o.PutUint32(b[0x204:], math.MaxUint32) }),
		"a name of 4 GiB":            evil(func(b []byte) { o.PutUint32(b[0x200:], math.MaxUint32) }),
		"an endless note segment":    evil(func(b []byte) { o.PutUint64(b[64+32:], math.MaxUint64) }),
		"notes before the file":      evil(func(b []byte) { o.PutUint64(b[64+8:], math.MaxUint64) }),
		"65535 headers":              evil(func(b []byte) { o.PutUint16(b[56:], 0xffff) }),
		"headers at the end":         evil(func(b []byte) { o.PutUint64(b[32:], math.MaxUint64-8) }),
		"headers that are the file":  evil(func(b []byte) { o.PutUint64(b[32:], 0); o.PutUint16(b[56:], 0xffff) }),
		"empty notes without an end": evil(func(b []byte) { clear(b[0x200:]); o.PutUint64(b[64+32:], 4096) }),
		"a build id of 0 bytes":      evil(func(b []byte) { o.PutUint32(b[0x204:], 0) }),
		"class 7":                    evil(func(b []byte) { b[4] = 7 }),
		"cut off":                    evil(func([]byte) {})[:70],
		"a loose note at the end":    evil(func(b []byte) { copy(b[4096-24:], b[0x200:0x218]); clear(b[0x200:0x224]) }),
	} {
		s := server(elf.EM_X86_64)
		s.Mappings[0].Bytes = page
		p := parsed(corefiletest.Build(s))
		f := p.Facts()
		if p.Err() != nil || f.Executable != "/app/server" || len(f.Frames) != 4 || len(f.Modules[0].BuildID) > 2*maxBuildID || f.Modules[1].BuildID != hex.EncodeToString(libID) {
			t.Errorf("%s: %v: %+v", name, p.Err(), f)
		}
	}
}

func TestAMistakeInTheParserCostsNobodyACore(t *testing.T) {
	core := corefiletest.Build(server(elf.EM_X86_64))
	p := NewParser()
	_, _ = p.Write(core[:64])
	p.next = func(*Parser, []byte) { panic("a mistake") }
	n, err := p.Write(core[64:])
	if n != len(core)-64 || err != nil || p.Err() == nil || !p.HeadDone() {
		t.Errorf("%d, %v, %v", n, err, p.Err())
	}
	_, _ = p.Write(core)
	_ = p.Facts()
}

func FuzzParser(f *testing.F) {
	for _, machine := range machines {
		s := server(machine)
		for i := range s.Mappings { // small, for the fuzzer tries to make what it finds smaller byte by byte
			m := &s.Mappings[i]
			m.Bytes = m.Bytes[:min(len(m.Bytes), 0x900)]
		}
		s.Threads, s.State = s.Threads[:3], 4
		f.Add(corefiletest.Build(s), uint16(7))
		s.ManySegments, s.BySize = true, true
		f.Add(corefiletest.Build(s), uint16(4096))
	}
	f.Add(corefiletest.Core(4096, 1), uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, piece uint16) {
		whole := parsed(b)
		p := NewParser()
		for rest := b; len(rest) > 0; {
			n := min(len(rest), int(piece)+1)
			_, _ = p.Write(rest[:n])
			rest = rest[n:]
		}
		facts := whole.Facts()
		if !reflect.DeepEqual(p.Facts(), facts) || p.Site() != whole.Site() || fmt.Sprint(p.Err()) != fmt.Sprint(whole.Err()) || p.HeadEnd() != whole.HeadEnd() {
			t.Fatalf("%+v %v\n%+v %v", facts, whole.Err(), p.Facts(), p.Err())
		}
		if err := whole.Err(); err != nil && strings.Contains(err.Error(), "reading the core:") {
			t.Fatal(err) // it panicked
		}
		if len(facts.Frames) > MaxFrames || len(facts.Modules) > maxModules || len(facts.Others) >= maxThreads || whole.HeadEnd() < 0 || whole.PromisedSize() < 0 {
			t.Fatalf("%+v", facts)
		}
		h, err := ReadHeader(bytes.NewReader(b))
		if err == nil && whole.PromisedSize() != 0 && h.PromisedSize != whole.PromisedSize() || (err != nil) != errors.Is(whole.Err(), ErrNotCore) && len(b) >= 64 {
			t.Fatalf("%+v, %v; %d, %v", h, err, whole.PromisedSize(), whole.Err())
		}
	})
}

func BenchmarkParser(b *testing.B) {
	s := server(elf.EM_X86_64)
	s.Mappings = append(s.Mappings, corefiletest.Mapping{Start: stackBase + 0x100000, Size: 256 << 20, Bytes: make([]byte, 256<<20)})
	core := corefiletest.Build(s)
	const piece = 256 << 10
	for b.Loop() {
		p := NewParser()
		for rest := core; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
			_, _ = p.Write(rest[:min(piece, len(rest))])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(core)>>20), "ns/MiB")
}
