// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package crash tells people what the facts of a core mean: it makes the summary of a record of them.
package crash

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/corefile"
)

const (
	// maxPath bounds a path in a summary in bytes; what is cut is its beginning, for the end tells more.
	maxPath = 256
	// signatureFrames are the frames that a signature covers: enough to tell callers apart, and not so many that every way that leads to a bug is
	// another one.
	signatureFrames = 5
)

// Summary gives what a record says of the crash, within the bounds of v1alpha1.CrashSummary; nil where the core says nothing. Its texts are printable ASCII.
func Summary(f corefile.Facts) *v1alpha1.CrashSummary {
	if f.Class == elf.ELFCLASSNONE {
		return nil
	}
	s := &v1alpha1.CrashSummary{
		Text: text(f), Signature: signature(f), Architecture: architecture(f),
		Threads: int32(f.Threads), Thread: int32(f.Rank), TID: f.TID, Code: f.Meaning,
	}
	if f.HasAddress {
		s.Address = address(f.Address)
	}
	for _, p := range f.Frames[:min(len(f.Frames), v1alpha1.MaxFrames)] {
		s.Frames = append(s.Frames, frame(p))
	}
	for _, t := range f.Others[:min(len(f.Others), v1alpha1.MaxOtherThreads)] {
		s.Others = append(s.Others, v1alpha1.ThreadPlace{TID: t.TID, CrashFrame: frame(t.Place)})
	}
	for _, m := range f.Modules[:min(len(f.Modules), v1alpha1.MaxModules)] {
		s.Modules = append(s.Modules, v1alpha1.CrashModule{Path: path(m.Path), BuildID: m.BuildID, Start: address(m.Start)})
	}
	s.BuildID = executableID(f)
	return s
}

// executableID is the build id of the executable, which is the first module.
func executableID(f corefile.Facts) string {
	if len(f.Modules) > 0 && f.Executable != "" && f.Modules[0].Path == f.Executable {
		return f.Modules[0].BuildID
	}
	return ""
}

// text is the crash in a sentence; "" where not even the signal is known.
func text(f corefile.Facts) string {
	if f.Signal == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(signalName(f.Signal))
	if f.Meaning != "" {
		fmt.Fprintf(&b, " (%s)", f.Meaning)
	} else if f.HasCode {
		fmt.Fprintf(&b, " (code %d)", f.Code)
	}
	if f.HasAddress {
		b.WriteString(" at " + address(f.Address))
	}
	if len(f.Frames) > 0 {
		first := f.Frames[0]
		b.WriteString(" in " + place(first))
		// In a library it is the caller that people look for.
		for _, p := range f.Frames[1:] {
			if first.Module == f.Executable || f.Executable == "" {
				break
			}
			if p.Module == f.Executable {
				b.WriteString(", called from " + place(p))
				break
			}
		}
	}
	switch {
	case f.Threads > 1 && f.Rank > 0:
		fmt.Fprintf(&b, ", thread %d of %d", f.Rank, f.Threads)
	case f.Threads > 1:
		fmt.Fprintf(&b, ", one of at least %d threads", f.Threads)
	}
	return b.String()
}

// place is a place in the code, for example /app/server+0x1f2c (build-id 93ac61ec...).
func place(p corefile.Place) string {
	if p.Module == "" {
		return address(p.Address)
	}
	s := path(p.Module) + "+" + address(p.Offset)
	if p.BuildID != "" {
		const short = 8
		s += " (build-id " + p.BuildID[:min(len(p.BuildID), short)] + "...)"
	}
	return s
}

// signature is 16 hex digits of a hash over what stays the same when a program crashes again at the same place and comes the same way: its build id, or its
// path where it has none, the signal, and for each frame the module and the place in it; "" where the place is not known. Unlike Site of corefile.Parser it
// knows the callers.
func signature(f corefile.Facts) string {
	if f.Signal == 0 || len(f.Frames) == 0 {
		return ""
	}
	h := sha256.New()
	id := executableID(f)
	if id == "" {
		id = f.Executable
	}
	add(h, id, strconv.Itoa(int(f.Signal)))
	for _, p := range f.Frames[:min(len(f.Frames), signatureFrames)] {
		switch {
		case p.Module == "": // of an address in no file nothing stays the same
			add(h, "", "")
		case p.BuildID != "":
			add(h, p.BuildID, address(p.Offset))
		default:
			add(h, p.Module, address(p.Offset))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// add hashes texts such that no two lists of them are the same.
func add(h hash.Hash, texts ...string) {
	for _, s := range texts {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
}

func frame(p corefile.Place) v1alpha1.CrashFrame {
	f := v1alpha1.CrashFrame{Address: address(p.Address)}
	if p.Module != "" {
		f.Module, f.Offset, f.BuildID = path(p.Module), address(p.Offset), p.BuildID
	}
	return f
}

func address(a uint64) string { return "0x" + strconv.FormatUint(a, 16) }

// signalName is the name of a signal, or its number where it has none.
func signalName(signal int32) string {
	if name := corefile.SignalName(int(signal)); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", signal)
}

// architecture names a machine as Go and Kubernetes do where they have a name for it.
func architecture(f corefile.Facts) string {
	little := f.Data == elf.ELFDATA2LSB
	switch wide := f.Class == elf.ELFCLASS64; {
	case f.Machine == elf.EM_X86_64 && wide:
		return "amd64"
	case f.Machine == elf.EM_AARCH64:
		return "arm64"
	case f.Machine == elf.EM_386:
		return "386"
	case f.Machine == elf.EM_ARM:
		return "arm"
	case f.Machine == elf.EM_S390 && wide:
		return "s390x"
	case f.Machine == elf.EM_PPC64 && little:
		return "ppc64le"
	case f.Machine == elf.EM_PPC64:
		return "ppc64"
	case f.Machine == elf.EM_RISCV && wide:
		return "riscv64"
	}
	return strings.ToLower(strings.TrimPrefix(f.Machine.String(), "EM_"))
}
