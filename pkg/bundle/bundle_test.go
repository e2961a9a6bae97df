// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

var some = []File{
	{"pod.json", []byte(`{"kind":"Pod"}`)}, {"proc/maps", bytes.Repeat([]byte("00400000-00401000 r-xp\n"), 1000)},
	{"proc/limits", nil}, {"log.txt", []byte("\x1b[31mpanic\x00\xff")}, {"a" + strings.Repeat("B", 99) + "/0" + strings.Repeat(".", 99), []byte("x")},
}

func mustEncode(t testing.TB, files []File) []byte {
	t.Helper()
	data, err := Encode(files)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestABundleGivesItsFilesBack(t *testing.T) {
	data := mustEncode(t, some)
	got, err := Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Clone(some)
	slices.SortFunc(want, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	if len(got) != len(want) {
		t.Fatalf("got %d files, want %d", len(got), len(want))
	}
	entries, err := List(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if got[i].Name != want[i].Name || !bytes.Equal(got[i].Data, want[i].Data) {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
		if e := (Entry{want[i].Name, int64(len(want[i].Data))}); entries[i] != e {
			t.Errorf("listed %v, want %v", entries[i], e)
		}
	}
	if err := Check(entries); err != nil {
		t.Error(err)
	}
}

func TestTheSameFilesGiveTheSameBytesInWhateverOrder(t *testing.T) {
	reversed := slices.Clone(some)
	slices.Reverse(reversed)
	first := reversed[0].Name
	if !bytes.Equal(mustEncode(t, some), mustEncode(t, reversed)) {
		t.Error("the bytes differ")
	}
	if reversed[0].Name != first {
		t.Error("Encode has changed its argument")
	}
}

func TestNoFilesAreABundleToo(t *testing.T) {
	if got, err := Decode(bytes.NewReader(mustEncode(t, nil))); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestWhatIsNoBundleIsNotEncoded(t *testing.T) {
	var many []File
	for i := range MaxFiles + 1 {
		many = append(many, File{Name: fmt.Sprintf("f%d", i)})
	}
	for why, files := range map[string][]File{
		"parent": {{Name: ".."}}, "climbs": {{Name: "a/.."}}, "dot": {{Name: ".a"}}, "absolute": {{Name: "/a"}}, "empty": {{Name: ""}}, "deep": {{Name: "a/b/c"}},
		"slash at its end": {{Name: "a/"}}, "slashes": {{Name: "a//b"}}, "newline": {{Name: "a\n"}}, "capital": {{Name: "A"}}, "backslash": {{Name: `a\b`}}, "not ASCII": {{Name: "ä"}},
		"long": {{Name: strings.Repeat("a", 101)}}, "long below": {{Name: "a/" + strings.Repeat("a", 101)}},
		"twice": {{Name: "a"}, {Name: "a"}}, "file and directory": {{Name: "a"}, {Name: "a/b"}}, "directory and file": {{Name: "a/b"}, {Name: "a"}},
		"many": many, "large": {{"a", make([]byte, MaxSize)}, {"b", []byte("x")}},
	} {
		if _, err := Encode(files); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, want %v", why, err, ErrInvalid)
		}
	}
	if err := Check([]Entry{{"a/b", 1}, {"a", 1}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a directory and a file: got %v", err)
	}
	if err := Check([]Entry{{"a", -1}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a negative size: got %v", err)
	}
	mustEncode(t, many[:MaxFiles])
	full := []File{{"a", make([]byte, MaxSize-1)}, {"b", []byte("x")}}
	if _, err := Decode(bytes.NewReader(mustEncode(t, full))); err != nil {
		t.Errorf("the largest bundle: %v", err)
	}
}

func zst(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithWindowSize(window))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// archive makes an archive as somebody else would.
func archive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.Mode = 0o600
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func foreign(t testing.TB) map[string][]byte {
	plain := tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 3, Format: tar.FormatUSTAR}
	with := func(change func(*tar.Header)) []byte {
		h := plain
		change(&h)
		return zst(t, archive(t, h))
	}
	var many []tar.Header
	for i := range MaxFiles + 1 {
		many = append(many, tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("f%d", i), Format: tar.FormatUSTAR})
	}
	good := mustEncode(t, some)
	short := archive(t, plain)
	claims := slices.Clone(short[:512])
	copy(claims[124:136], "77777777777\x00") // 8 GiB, with a checksum that does not fit any more; the reader refuses either
	return map[string][]byte{
		"nothing":              nil,
		"no zstd":              []byte("GIF89a"),
		"no tar":               zst(t, []byte("GIF89a")),
		"cut":                  good[:len(good)-5],
		"cut at the header":    zst(t, short[:700]),
		"cut within a file":    zst(t, short[:513]),
		"claims":               zst(t, claims),
		"climbs":               with(func(h *tar.Header) { h.Name = "../a" }),
		"absolute":             with(func(h *tar.Header) { h.Name = "/etc/passwd" }),
		"deep":                 with(func(h *tar.Header) { h.Name = "a/b/c" }),
		"directory":            with(func(h *tar.Header) { h.Typeflag, h.Name, h.Size = tar.TypeDir, "a/", 0 }),
		"symbolic link":        with(func(h *tar.Header) { h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, "/etc/passwd", 0 }),
		"hard link":            with(func(h *tar.Header) { h.Typeflag, h.Linkname, h.Size = tar.TypeLink, "a", 0 }),
		"device":               with(func(h *tar.Header) { h.Typeflag, h.Size = tar.TypeBlock, 0 }),
		"fifo":                 with(func(h *tar.Header) { h.Typeflag, h.Size = tar.TypeFifo, 0 }),
		"PAX":                  with(func(h *tar.Header) { h.Format, h.PAXRecords = tar.FormatPAX, map[string]string{"SCHILY.xattr.a": "b"} }),
		"GNU":                  with(func(h *tar.Header) { h.Format = tar.FormatGNU }),
		"twice":                zst(t, archive(t, plain, plain)),
		"many":                 zst(t, archive(t, many...)),
		"something behind":     zst(t, append(archive(t, plain), 1)),
		"another bundle there": zst(t, append(archive(t, plain), archive(t, plain)...)),
		"long padding":         zst(t, append(archive(t, plain), make([]byte, maxTar)...)),
		"a frame behind":       append(slices.Clone(good), zst(t, []byte("x"))...),
		"no frame behind":      append(slices.Clone(good), 'x', 'y', 'z', '1', '2'),
		"another byte":         func() []byte { b := slices.Clone(good); b[len(b)/2] ^= 1; return b }(),
	}
}

func TestWhatIsNoBundleIsRefused(t *testing.T) {
	for why, data := range foreign(t) {
		if files, err := Decode(bytes.NewReader(data)); !errors.Is(err, ErrCorrupt) || files != nil {
			t.Errorf("%s: got %d files, %v, want %v", why, len(files), err, ErrCorrupt)
		}
		if entries, err := List(bytes.NewReader(data)); !errors.Is(err, ErrCorrupt) || entries != nil {
			t.Errorf("%s: listed %v, %v, want %v", why, entries, err, ErrCorrupt)
		}
	}
}

func TestAReaderThatFailsIsNoCorruptBundle(t *testing.T) {
	broken := errors.New("broken")
	data := mustEncode(t, some)
	for _, n := range []int{0, 1, len(data) / 2} {
		_, err := Decode(io.MultiReader(bytes.NewReader(data[:n]), failing{broken}))
		if !errors.Is(err, broken) || errors.Is(err, ErrCorrupt) {
			t.Errorf("after %d bytes: got %v, want %v", n, err, broken)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestABombTakesNoMoreMemoryThanABundle decodes what is a few KiB long and a GiB when decompressed.
func TestABombTakesNoMoreMemoryThanABundle(t *testing.T) {
	header := archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: MaxSize, Format: tar.FormatUSTAR})[:512]
	var bomb bytes.Buffer
	z, err := zstd.NewWriter(&bomb, zstd.WithWindowSize(window))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range [][]byte{header, make([]byte, 1<<20)} {
		n := 1
		if len(part) > 512 {
			n = 1 << 10
		}
		for range n {
			if _, err := z.Write(part); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if bomb.Len() > 1<<20 {
		t.Fatalf("the bomb has %d bytes itself", bomb.Len())
	}
	r := &counting{r: bytes.NewReader(bomb.Bytes())}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Decode(r); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v, want %v", err, ErrCorrupt)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > MaxSize+8<<20 {
		t.Errorf("it took %d MiB in all", took>>20)
	}
	if r.n > bomb.Len()/2 {
		t.Errorf("it read %d of %d bytes", r.n, bomb.Len())
	}
}

type counting struct {
	r io.Reader
	n int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p[:min(len(p), 64)])
	c.n += n
	return n, err
}

// TestAWindowThatTakesMuchMemoryIsRefused: a frame header says how much a decoder has to keep.
func TestAWindowThatTakesMuchMemoryIsRefused(t *testing.T) {
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithWindowSize(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 2 << 20, Format: tar.FormatUSTAR})); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(&b); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v, want %v", err, ErrCorrupt)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(mustEncode(f, some))
	f.Add(mustEncode(f, nil))
	for _, data := range foreign(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := Decode(bytes.NewReader(data))
		entries, listErr := List(bytes.NewReader(data))
		if (err == nil) != (listErr == nil) {
			t.Fatalf("decoded: %v, listed: %v", err, listErr)
		}
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v, want %v", err, ErrCorrupt)
			}
			return
		}
		var want []Entry
		for _, file := range files {
			want = append(want, Entry{file.Name, int64(len(file.Data))})
		}
		if !slices.Equal(entries, want) || Check(entries) != nil {
			t.Errorf("listed %v, want %v; %v", entries, want, Check(entries))
		}
		again, err := Decode(bytes.NewReader(mustEncode(t, files)))
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
		if len(files) > 0 && !reflect.DeepEqual(again, files) {
			t.Errorf("%q became %q", files, again)
		}
	})
}
