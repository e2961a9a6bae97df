// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"debug/elf"
	"reflect"
	"strings"
	"testing"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/corefile"
)

const id = "93ac61ec5a8eb1396f9fbd350e3169a558528a40"

func facts() corefile.Facts {
	return corefile.Facts{
		Class: elf.ELFCLASS64, Data: elf.ELFDATA2LSB, Machine: elf.EM_X86_64,
		Signal: 11, Code: 1, HasCode: true, Meaning: "address not mapped", Address: 8, HasAddress: true,
		PID: 1, TID: 9, Comm: "server", Executable: "/app/server", Threads: 14, Rank: 3,
		Frames: []corefile.Place{
			{Address: 0x55d0c8a3ff2c, Module: "/app/server", Offset: 0x1f2c, BuildID: id},
			{Address: 0x55d0c8a3fa00, Module: "/app/server", Offset: 0x1a00, BuildID: id},
		},
		Others:  []corefile.ThreadPlace{{TID: 1, Place: corefile.Place{Address: 0x1000}}},
		Modules: []corefile.Module{{Path: "/app/server", BuildID: id, Start: 0x55d0c8a3e000}},
	}
}

func TestASummarySaysTheCrashInASentence(t *testing.T) {
	for _, c := range []struct {
		change func(*corefile.Facts)
		want   string
	}{
		{func(*corefile.Facts) {}, "SIGSEGV (address not mapped) at 0x8 in /app/server+0x1f2c (build-id 93ac61ec...), thread 3 of 14"},
		{func(f *corefile.Facts) { f.Threads, f.Rank = 1, 1 }, "SIGSEGV (address not mapped) at 0x8 in /app/server+0x1f2c (build-id 93ac61ec...)"},
		{func(f *corefile.Facts) { f.Rank = 0 }, "SIGSEGV (address not mapped) at 0x8 in /app/server+0x1f2c (build-id 93ac61ec...), one of at least 14 threads"},
		{func(f *corefile.Facts) { f.Frames[0] = corefile.Place{} }, "SIGSEGV (address not mapped) at 0x8 in 0x0, called from /app/server+0x1a00 (build-id 93ac61ec...), thread 3 of 14"},
		{func(f *corefile.Facts) {
			*f = corefile.Facts{Class: f.Class, Signal: 6, Code: -6, HasCode: true, Meaning: "sent by tkill", Executable: "/app/a\x1b[2J\n", Frames: []corefile.Place{{Address: 1, Module: "/lib/c", Offset: 2}, {Module: "/app/a\x1b[2J\n", Offset: 3}}}
		}, `SIGABRT (sent by tkill) in /lib/c+0x2, called from /app/a\x1b[2J\n+0x3`},
		{func(f *corefile.Facts) {
			f.Signal, f.Meaning, f.Code, f.HasAddress, f.Frames, f.Threads = 66, "", 77, false, nil, 0
		}, "signal 66 (code 77)"},
		{func(f *corefile.Facts) { f.Signal = 0 }, ""},
	} {
		f := facts()
		c.change(&f)
		if got := Summary(f).Text; got != c.want {
			t.Errorf("%q, must be %q", got, c.want)
		}
	}
}

func TestASummaryHasWhatTheCoreSays(t *testing.T) {
	s := Summary(facts())
	want := &v1alpha1.CrashSummary{
		Text: s.Text, Signature: s.Signature, BuildID: id, Architecture: "amd64", Threads: 14, Thread: 3, TID: 9, Code: "address not mapped", Address: "0x8",
		Frames: []v1alpha1.CrashFrame{
			{Address: "0x55d0c8a3ff2c", Module: "/app/server", Offset: "0x1f2c", BuildID: id}, {Address: "0x55d0c8a3fa00", Module: "/app/server", Offset: "0x1a00", BuildID: id},
		},
		Others:  []v1alpha1.ThreadPlace{{TID: 1, CrashFrame: v1alpha1.CrashFrame{Address: "0x1000"}}},
		Modules: []v1alpha1.CrashModule{{Path: "/app/server", BuildID: id, Start: "0x55d0c8a3e000"}},
	}
	if !reflect.DeepEqual(s, want) || len(s.Signature) != 16 {
		t.Errorf("%+v, must be %+v", s, want)
	}
	if Summary(corefile.Facts{}) != nil {
		t.Error("a summary of nothing")
	}
}

func TestASignatureIsThatOfTheBug(t *testing.T) {
	was := Summary(facts()).Signature
	for name, c := range map[string]struct {
		change func(*corefile.Facts)
		same   bool
	}{
		"elsewhere in memory": {func(f *corefile.Facts) { f.Frames[0].Address, f.Modules[0].Start, f.PID, f.Address = 1, 2, 3, 4 }, true},
		"under another path":  {func(f *corefile.Facts) { f.Executable, f.Modules[0].Path, f.Frames[0].Module = "/a", "/a", "/a" }, true},
		"deep callers":        {func(f *corefile.Facts) { f.Frames = append(f.Frames, make([]corefile.Place, 3)...) }, false},
		"another signal":      {func(f *corefile.Facts) { f.Signal = 7 }, false},
		"another place":       {func(f *corefile.Facts) { f.Frames[0].Offset++ }, false},
		"another caller":      {func(f *corefile.Facts) { f.Frames[1].Offset++ }, false},
		"another build":       {func(f *corefile.Facts) { f.Modules[0].BuildID = "00" }, false},
	} {
		f := facts()
		c.change(&f)
		if got := Summary(f).Signature; (got == was) != c.same {
			t.Errorf("%s: %s, was %s", name, got, was)
		}
	}
}

func TestASummaryIsBoundedAndPrintable(t *testing.T) {
	f := facts()
	evil := strings.Repeat("/\xff\x1b\u202e", 2000)
	f.Executable = evil
	p := corefile.Place{Module: evil, Offset: 1, BuildID: id}
	f.Frames, f.Others, f.Modules = nil, nil, nil
	for range 100 {
		f.Frames = append(f.Frames, p)
		f.Others = append(f.Others, corefile.ThreadPlace{TID: 1, Place: p})
		f.Modules = append(f.Modules, corefile.Module{Path: evil})
	}
	s := Summary(f)
	if len(s.Frames) != v1alpha1.MaxFrames || len(s.Others) != v1alpha1.MaxOtherThreads || len(s.Modules) != v1alpha1.MaxModules {
		t.Errorf("%d frames, %d others, %d modules", len(s.Frames), len(s.Others), len(s.Modules))
	}
	for _, text := range []string{s.Text, s.Frames[7].Module, s.Others[15].Module, s.Modules[31].Path} {
		if len(text) == 0 || len(text) > 800 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%d bytes: %q", len(text), text)
		}
	}
}

func TestMachinesHaveTheirUsualNames(t *testing.T) {
	for want, f := range map[string]corefile.Facts{
		"arm64":   {Class: elf.ELFCLASS64, Machine: elf.EM_AARCH64},
		"386":     {Class: elf.ELFCLASS32, Machine: elf.EM_386},
		"ppc64le": {Class: elf.ELFCLASS64, Data: elf.ELFDATA2LSB, Machine: elf.EM_PPC64},
		"sparcv9": {Class: elf.ELFCLASS64, Machine: elf.EM_SPARCV9},
	} {
		if got := Summary(f).Architecture; got != want {
			t.Errorf("%q, must be %q", got, want)
		}
	}
}
