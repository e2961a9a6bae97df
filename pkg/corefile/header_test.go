// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package corefile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"
	"testing/iotest"

	"example.io/coredump/pkg/corefile/corefiletest"
)

func TestACoreSaysHowLongItIs(t *testing.T) {
	for _, size := range []int{corefiletest.MinSize, corefiletest.MinSize + 1, 1 << 20} {
		core := corefiletest.Core(size, 1)
		h, err := ReadHeader(iotest.OneByteReader(bytes.NewReader(core)))
		if err != nil {
			t.Fatal(err)
		}
		if len(core) != size || h.PromisedSize != int64(size) || h.Segments != 2 || h.Machine != elf.EM_X86_64 || h.Class != elf.ELFCLASS64 {
			t.Errorf("a core of %d bytes gives %+v", size, h)
		}
	}
}

func TestReadHeaderReadsNothingBehindTheHeaders(t *testing.T) {
	core := bytes.NewReader(corefiletest.Core(1<<16, 1))
	if _, err := ReadHeader(core); err != nil {
		t.Fatal(err)
	}
	if read := core.Size() - int64(core.Len()); read != 64+2*56 {
		t.Errorf("read %d bytes", read)
	}
}

func TestACutOffCorePromisesMoreThanItHas(t *testing.T) {
	core := corefiletest.Core(4096, 1)
	for n := range len(core) {
		h, err := ReadHeader(bytes.NewReader(core[:n]))
		switch {
		case n < 64 && !errors.Is(err, ErrNotCore):
			t.Fatalf("%d bytes: %v", n, err)
		case n >= 64 && (err != nil || h.PromisedSize <= int64(n)):
			t.Fatalf("%d bytes: promises %d, %v", n, h.PromisedSize, err)
		}
	}
}

func TestThirtyTwoBitsAndBigEndian(t *testing.T) {
	var b bytes.Buffer
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS32), byte(elf.ELFDATA2MSB), 1}
	must(t, binary.Write(&b, binary.BigEndian, elf.Header32{Ident: ident, Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_PPC), Phoff: 52, Phentsize: 32, Phnum: 1}))
	must(t, binary.Write(&b, binary.BigEndian, elf.Prog32{Type: uint32(elf.PT_LOAD), Off: 4096, Filesz: 8192}))
	h, err := ReadHeader(&b)
	if err != nil || h.PromisedSize != 12288 || h.Machine != elf.EM_PPC {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestMoreSegmentsThanTheHeaderCanSay(t *testing.T) {
	const segments = 70_000
	var b bytes.Buffer
	eh := elf.Header64{Type: uint16(elf.ET_CORE), Phoff: 64, Phentsize: 56, Phnum: pnXNum, Shoff: 1 << 30}
	copy(eh.Ident[:], corefiletest.Header(1 << 20)[:16])
	must(t, binary.Write(&b, binary.LittleEndian, eh))
	must(t, binary.Write(&b, binary.LittleEndian, elf.Prog64{Type: uint32(elf.PT_NOTE), Off: 64 + segments*56, Filesz: 100}))
	loads := make([]elf.Prog64, segments-1)
	loads[segments-2] = elf.Prog64{Type: uint32(elf.PT_LOAD), Off: 1 << 29, Filesz: 1 << 20}
	must(t, binary.Write(&b, binary.LittleEndian, loads))
	h, err := ReadHeader(&b)
	if err != nil || h.Segments != segments || h.PromisedSize != 1<<30+64 {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestWhatIsNoCoreIsNamed(t *testing.T) {
	exe, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	change := func(at int, v ...byte) []byte {
		b := corefiletest.Core(4096, 1)
		copy(b[at:], v)
		return b
	}
	for name, b := range map[string][]byte{
		"empty":                      {},
		"text":                       bytes.Repeat([]byte("no core\n"), 100),
		"an executable":              exe[:4096],
		"class 3":                    change(4, 3),
		"data 0":                     change(5, 0),
		"headers elsewhere":          change(32, 65),
		"headers of another size":    change(54, 57),
		"no headers":                 change(56, 0),
		"many headers but no note":   change(56, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 1),
		"many headers, note too low": change(56, 0xff, 0xff),
	} {
		if _, err := ReadHeader(bytes.NewReader(b)); !errors.Is(err, ErrNotCore) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheReadersOwnErrorIsNoVerdict(t *testing.T) {
	broken := errors.New("broken")
	for _, n := range []int64{0, 10, 64, 100} {
		r := io.MultiReader(io.LimitReader(bytes.NewReader(corefiletest.Core(4096, 1)), n), iotest.ErrReader(broken))
		if _, err := ReadHeader(r); !errors.Is(err, broken) || errors.Is(err, ErrNotCore) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func FuzzReadHeader(f *testing.F) {
	f.Add(corefiletest.Core(4096, 1))
	f.Add(corefiletest.Header(1 << 40)[:100])
	f.Add([]byte("\x7fELF\x01\x02\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ReadHeader(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, ErrNotCore) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		if h.PromisedSize < 64 || h.Segments < 1 || h.Segments > maxSegments {
			t.Fatalf("%+v", h)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
