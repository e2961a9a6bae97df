// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package tarball

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"example.io/coredump/pkg/seekable"
)

var at = time.Unix(1760000000, 0)

// stored gives a file that lies compressed somewhere, a core as dumps of this project have it.
func stored(t testing.TB, name string, content []byte, e Encoding) File {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&b)
	if e == Zstd {
		z, err := seekable.NewWriter(&b, seekable.Options{FrameSize: frameSize(len(content))})
		if err != nil {
			t.Fatal(err)
		}
		w = z
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f := Bytes(name, at, content)
	f.Stored = &Stored{Encoding: e, Size: int64(b.Len()), ID: "bytes of " + f.ID, OpenRange: ranged(b.Bytes())}
	if e == Zstd {
		f.OpenRange = bySeekTable(t, f.Stored)
	}
	return f
}

func bySeekTable(t testing.TB, s *Stored) func(context.Context, int64, int64) (io.ReadCloser, error) {
	table, err := seekable.ReadTable(context.Background(), s.OpenRange, s.Size)
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		return seekable.Open(ctx, table, s.OpenRange, offset, length, 2)
	}
}

// mixed gives files of all kinds that can be spliced into e.
func mixed(t testing.TB, n int, e Encoding) []File {
	var files []File
	for i := range n {
		content := random(rand.IntN(5000) * rand.IntN(2))
		name := fmt.Sprintf("app/core-%d", i)
		if rand.IntN(5) == 0 {
			name += strings.Repeat("x", 200)
		}
		switch kind := rand.IntN(5); {
		case kind == 0:
			f := file(name, content) // opened from its start only, and anew for each reader
			f.Open = Bytes(name, at, content).Open
			files = append(files, f)
		case kind == 1:
			files = append(files, Bytes(name, at, content))
		case kind == 2 && e == Zstd:
			files = append(files, stored(t, name, content, Gzip)) // small, but stored otherwise
		case e == Gzip:
			files = append(files, stored(t, name, content, Gzip))
		default:
			files = append(files, stored(t, name, content, Zstd))
		}
	}
	return files
}

func decompress(t testing.TB, e Encoding, b []byte) []byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(b)
	var err error
	switch e {
	case Zstd:
		d, e := zstd.NewReader(r)
		if e != nil {
			t.Fatal(e)
		}
		defer d.Close()
		r = d
	case Gzip:
		if r, err = gzip.NewReader(r); err != nil {
			t.Fatal(err)
		}
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func readAll(t testing.TB, a *Archive) []byte {
	t.Helper()
	r := a.Open(t.Context())
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(b)) != a.Size() {
		t.Fatalf("the archive has %d bytes, announced were %d", len(b), a.Size())
	}
	return b
}

func eachEncoding(t *testing.T, f func(t *testing.T, e Encoding)) {
	for e, name := range map[Encoding]string{Plain: "plain", Zstd: "zstd", Gzip: "gzip"} {
		t.Run(name, func(t *testing.T) { f(t, e) })
	}
}

// A spliced archive decompresses to what the plain archive of the same files is.
func TestSplicedIsThePlainArchiveCompressed(t *testing.T) {
	eachEncoding(t, func(t *testing.T, e Encoding) {
		for n := range 20 {
			files := mixed(t, n, e)
			plain, err := New(files)
			if err != nil {
				t.Fatal(err)
			}
			spliced, err := Splice(files, e)
			if err != nil || !Spliceable(files, e) {
				t.Fatal(err)
			}
			if !bytes.Equal(decompress(t, e, readAll(t, spliced)), readAll(t, plain)) {
				t.Fatalf("%d files: not the same", n)
			}
		}
	})
}

// Any split into ranges gives the same bytes as the whole.
func TestAnySplitIntoRangesGivesTheWhole(t *testing.T) {
	eachEncoding(t, func(t *testing.T, e Encoding) {
		for n := range 12 {
			a, err := Splice(mixed(t, n, e), e)
			if err != nil {
				t.Fatal(err)
			}
			if !a.Seekable() {
				t.Fatal("not seekable")
			}
			whole := readAll(t, a)
			check := func(from, to int64) {
				t.Helper()
				r, err := a.OpenRange(t.Context(), from, to-from)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				got, err := io.ReadAll(iotest.HalfReader(r))
				if err != nil || !bytes.Equal(got, whole[from:to]) {
					t.Fatalf("%d files, bytes %d to %d: %d bytes, %v", n, from, to, len(got), err)
				}
			}
			check(0, a.Size())
			for range 10 {
				from := int64(0)
				for from < a.Size() {
					to := min(from+1+rand.Int64N(rand.Int64N(a.Size())+1), a.Size())
					check(from, to)
					from = to
				}
			}
			for _, end := range a.ends { // around every border
				for from := max(end-2, 0); from <= min(end+2, a.Size()); from++ {
					check(from, min(from+rand.Int64N(4), a.Size()))
				}
			}
		}
	})
}

func TestRangeOutsideOfTheArchiveIsRefused(t *testing.T) {
	a, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]int64{{-1, 1}, {0, -1}, {0, trailerSize + 1}, {trailerSize + 1, 0}, {1, 1<<63 - 1}, {1<<63 - 1, 1<<63 - 1}} {
		if _, err := a.OpenRange(t.Context(), r[0], r[1]); err == nil {
			t.Errorf("%v was accepted", r)
		}
	}
}

// A range opens what it needs of the contents, and nothing else.
func TestRangeOpensOnlyWhatIsInIt(t *testing.T) {
	var log []string
	content := func(name string) File {
		f := Bytes(name, at, random(3000))
		open := f.OpenRange
		f.Open = nil
		f.OpenRange = func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
			log = append(log, fmt.Sprint(name, offset, " ", length))
			return open(ctx, offset, length)
		}
		return f
	}
	a, err := New([]File{content("a"), content("b"), content("c")})
	if err != nil {
		t.Fatal(err)
	}
	const each = blockSize + 3072
	for _, test := range []struct {
		offset, length int64
		want           string
	}{
		{0, blockSize, "[]"},
		{blockSize, 1, "[a0 1]"},
		{blockSize + 2999, 1, "[a2999 1]"},
		{blockSize + 3000, 72 + blockSize, "[]"},
		{blockSize + 100, each, "[a100 2900 b0 100]"},
		{blockSize + 2999, 2*each - 2998, "[a2999 1 b0 3000 c0 1]"},
		{3 * each, trailerSize, "[]"},
	} {
		log = nil
		r, err := a.OpenRange(t.Context(), test.offset, test.length)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, r)
		if err != nil || n != test.length || fmt.Sprint(log) != test.want {
			t.Errorf("%d bytes at %d: %d, %v, opened %v, want %s", test.length, test.offset, n, err, log, test.want)
		}
	}
}

func TestLargeFileThatCannotBeOpenedInTheMiddle(t *testing.T) {
	large := make([]byte, maxSmall+1)
	f := File{Name: "app/core", Size: int64(len(large)), ID: "x", Open: Bytes("", at, large).Open}
	a, err := New([]File{f})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.OpenRange(t.Context(), 0, 1); !errors.Is(err, ErrNotSeekable) || a.Seekable() {
		t.Errorf("error is %v", err)
	}
	r, err := a.OpenRange(t.Context(), 0, a.Size())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); n != a.Size() || err != nil {
		t.Error(n, err)
	}
	for _, e := range []Encoding{Zstd, Gzip} {
		if _, err := Splice([]File{f}, e); !errors.Is(err, ErrNotSpliceable) || Spliceable([]File{f}, e) {
			t.Errorf("error is %v", err)
		}
		other := f
		other.Stored = &Stored{Encoding: Zstd + Gzip - e}
		if Spliceable([]File{other}, e) {
			t.Error("what is stored in the other encoding is spliceable")
		}
		f.Size--
		if !Spliceable([]File{f}, e) {
			t.Error("what is small is not spliceable")
		}
		f.Size++
	}
}

func TestStoredThatCannotBe(t *testing.T) {
	f := file("app/core", nil)
	for _, s := range []Stored{{Encoding: Plain}, {Encoding: Zstd, Size: -1}} {
		f.Stored = &s
		if _, err := Splice([]File{f}, Zstd); err == nil {
			t.Errorf("%+v was accepted", s)
		}
	}
}

// A content, stored or not, that is not as long as it was said to be ends the stream with an error, in a range too.
func TestRangeOfContentThatIsNotWhatWasSaid(t *testing.T) {
	for _, n := range []int{1999, 2001} {
		wrong := random(n)
		whatever := func(context.Context, int64, int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(wrong)), nil
		}
		lazy := file("app/core", wrong)
		lazy.Size = 2000
		lazy.Open = Bytes("", at, wrong).Open
		for name, f := range map[string]File{
			"stored": {Name: "app/core", Size: 5, Stored: &Stored{Encoding: Zstd, Size: 2000, OpenRange: whatever}},
			"small":  lazy,
		} {
			a, err := Splice([]File{f}, Zstd)
			if err != nil {
				t.Fatal(err)
			}
			for _, offset := range []int64{0, 1} {
				r, err := a.OpenRange(t.Context(), offset, a.Size()-offset)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); !errors.Is(err, ErrSize) && offset == 0 {
					t.Errorf("%s, %d bytes: error is %v", name, n, err)
				}
				r.Close()
			}
		}
	}
}

// A content that refuses itself at its end is not given up to there, also where a range begins in its middle.
func TestRangeUpToTheEndOfContentThatRefusesItself(t *testing.T) {
	content := random(2000)
	f := File{Name: "app/core", Size: 2000, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(content), iotest.ErrReader(errSource))), nil
	}}
	eachEncoding(t, func(t *testing.T, e Encoding) {
		a, err := Splice([]File{f}, e)
		if err != nil {
			t.Fatal(err)
		}
		from := a.ends[0] - 100
		for end, want := range map[int64]error{a.ends[0]: errSource, a.ends[0] - 50: nil} {
			r, err := a.OpenRange(t.Context(), from, end-from)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, r); !errors.Is(err, want) {
				t.Errorf("up to %d of %d: error is %v, want %v", end, a.ends[0], err, want)
			}
			r.Close()
		}
	})
}

func TestWrappedContentOfAnotherLength(t *testing.T) {
	for _, e := range []Encoding{Zstd, Gzip} {
		for _, n := range []int64{0, 99, 101, 1 << 20} {
			r := e.wrapped(io.NopCloser(bytes.NewReader(make([]byte, 100))), n)
			if _, err := io.Copy(io.Discard, r); !errors.Is(err, ErrSize) {
				t.Errorf("%d bytes for 100: error is %v", n, err)
			}
		}
	}
}

func TestETag(t *testing.T) {
	core := stored(t, "app/core", random(3000), Zstd)
	tag := func(files []File, e Encoding) string {
		a, err := Splice(files, e)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := Splice(files, e); again.ETag() != a.ETag() {
			t.Error("the same archive has two tags")
		}
		return a.ETag()
	}
	change := func(f func(*File)) []File {
		g := core
		s := *core.Stored
		g.Stored = &s
		f(&g)
		return []File{g}
	}
	single, err := Single(core)
	if err != nil {
		t.Fatal(err)
	}
	singleStored, err := SingleStored(core)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for name, got := range map[string]string{
		"zstd":            tag([]File{core}, Zstd),
		"plain":           tag([]File{core}, Plain),
		"gzip":            tag([]File{core}, Gzip),
		"the core":        single.ETag(),
		"the core stored": singleStored.ETag(),
		"twice":           tag([]File{core, core}, Zstd),
		"other name":      tag(change(func(f *File) { f.Name += "x" }), Zstd),
		"other time":      tag(change(func(f *File) { f.ModTime = at.Add(time.Second) }), Zstd),
		"other bytes":     tag(change(func(f *File) { f.Stored.ID = "other of " + f.Stored.ID[9:] }), Zstd),
		"other content":   tag(change(func(f *File) { f.ID = strings.ToUpper(f.ID) }), Plain),
		"other size":      tag(change(func(f *File) { f.Stored.Size++ }), Zstd),
		"nothing":         tag(nil, Plain),
		"nothing in zstd": tag(nil, Zstd),
	} {
		if len(got) != 34 || got[0] != '"' || got[33] != '"' {
			t.Errorf("%s: tag is %s", name, got)
		}
		if other := seen[got]; other != "" {
			t.Errorf("%s has the tag of %s", name, other)
		}
		seen[got] = name
	}
	if got := tag(change(func(f *File) { f.Stored.ID = "" }), Zstd); got != "" {
		t.Errorf("without an ID the tag is %s", got)
	}
	if got := tag(change(func(f *File) { f.ID = "" }), Zstd); got == "" {
		t.Error("the ID of a content that is not used is missed")
	}
}

// The frames that are made here are the same for ever: a client may have half of an archive from a server of another version.
func TestWrappedBytesAreFixed(t *testing.T) {
	for _, test := range []struct {
		e    Encoding
		want string
	}{
		{Plain, "core"},
		{Zstd, "\x28\xb5\x2f\xfd\x84\x38\x04\x00\x00\x00\x21\x00\x00coret\xe1cQ"},
		{Gzip, "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x01\x04\x00\xfb\xffcoreO\x85\x8dk\x04\x00\x00\x00"},
	} {
		got := test.e.wrap([]byte("core"))
		if decoded := string(decompress(t, test.e, got)); decoded != "core" {
			t.Errorf("it is %q", decoded)
		}
		if string(got) != test.want {
			t.Errorf("%d: %q, want %q", test.e, got, test.want)
		}
	}
}

func TestWrapOfAnySize(t *testing.T) {
	eachEncoding(t, func(t *testing.T, e Encoding) {
		for _, n := range []int{0, 1, 255, 256, gzipBlock - 1, gzipBlock, gzipBlock + 1, zstdBlock - 1, zstdBlock, zstdBlock + 1, 2 * gzipBlock, 2 * zstdBlock, 1 << 20} {
			b := random(n)
			got := e.wrap(b)
			if int64(len(got)) != e.wrappedSize(int64(n)) {
				t.Errorf("%d bytes become %d, want %d", n, len(got), e.wrappedSize(int64(n)))
			}
			if !bytes.Equal(decompress(t, e, got), b) {
				t.Errorf("%d bytes: others come back", n)
			}
		}
	})
}

// splicedTools extract a compressed archive with the programs that people have. $1 is the archive, extraction goes to the working directory.
var splicedTools = map[Encoding]map[string]string{
	Zstd: {
		"GNU tar":          `tar --version | grep -q GNU && tar --zstd -xf "$1"`,
		"GNU tar by name":  `tar -xaf "$1"`,
		"bsdtar":           `bsdtar -xf "$1"`,
		"zstd and busybox": `zstd -dc "$1" | busybox tar -xf -`,
		"unzstd and tar":   `unzstd -c "$1" | tar -xf -`,
		"python": `/usr/bin/python3 -c 'import sys,tarfile,zstandard
r=zstandard.ZstdDecompressor().stream_reader(open(sys.argv[1],"rb"),read_across_frames=True)
tarfile.open(fileobj=r,mode="r|").extractall(".")' "$1"`,
	},
	Gzip: {
		"GNU tar":        `tar --version | grep -q GNU && tar -zxf "$1"`,
		"bsdtar":         `bsdtar -xf "$1"`,
		"busybox":        `busybox tar -zxf "$1"`,
		"gunzip and tar": `gunzip -c <"$1" | tar -xf -`,
		"busybox gunzip": `busybox gunzip -c "$1" | tar -xf -`,
		"python":         `/usr/bin/python3 -c 'import sys,tarfile; tarfile.open(sys.argv[1]).extractall(".")' "$1"`,
	},
}

func eachSplicedTool(t *testing.T, e Encoding, f func(t *testing.T, script string)) {
	for name, script := range splicedTools[e] {
		t.Run(name, func(t *testing.T) {
			for _, program := range []string{strings.Fields(script)[0], "busybox", "tar"} {
				if !strings.Contains(script, program) {
					continue
				}
				if _, err := exec.LookPath(program); err != nil {
					t.Skipf("%s is not installed", program)
				}
			}
			if strings.Contains(script, "zstandard") && exec.Command("/usr/bin/python3", "-c", "import zstandard").Run() != nil {
				t.Skip("Python has no zstandard")
			}
			f(t, script)
		})
	}
}

var suffixes = map[Encoding]string{Zstd: "archive.tar.zst", Gzip: "archive.tar.gz"}

func writeSpliced(t *testing.T, files []File, e Encoding) string {
	a, err := Splice(files, e)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), suffixes[e])
	if err := os.WriteFile(name, readAll(t, a), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// Seek tables are in the middle of such a stream; 0-byte cores are nothing but one. Hundreds of dumps are thousands of frames.
func TestRealToolsExtractSplicedArchives(t *testing.T) {
	for _, e := range []Encoding{Zstd, Gzip} {
		t.Run(suffixes[e], func(t *testing.T) {
			files := []File{stored(t, "app/empty", nil, e), stored(t, "app/large", append(random(3_000_000), make([]byte, 3_000_000)...), e)}
			for i := range 300 {
				name := fmt.Sprintf("app/core-%d", i)
				files = append(files, stored(t, name, random(rand.IntN(3000)), e), Bytes(name+".json", at, []byte("{}")))
			}
			archive := writeSpliced(t, files, e)
			eachSplicedTool(t, e, func(t *testing.T, script string) {
				dir := t.TempDir()
				if out := run(t, dir, script, archive); out != "" {
					t.Errorf("extracting says %q", out)
				}
				for _, f := range files {
					r, err := f.Open(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					want, _ := io.ReadAll(r)
					got, err := os.ReadFile(filepath.Join(dir, f.Name))
					if err != nil || !bytes.Equal(got, want) {
						t.Fatalf("%s: %d bytes, %v, want %d", f.Name, len(got), err, len(want))
					}
				}
			})
		})
	}
}

// A member list of a spliced archive with a file of more than 8 GiB, for which the tool has to decompress it all.
func TestRealToolsReadSplicedFilesOver8GiB(t *testing.T) {
	if testing.Short() {
		t.Skip("decompresses 8 GiB with each tool")
	}
	const piece = 128 << 20
	core := stored(t, "app/huge", make([]byte, piece), Zstd).Stored
	r, err := core.OpenRange(t.Context(), 0, core.Size)
	if err != nil {
		t.Fatal(err)
	}
	one, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.Repeat(one, 8<<30/piece+1)
	huge := File{Name: "app/huge", Size: 8<<30 + piece, ModTime: at, Stored: &Stored{Encoding: Zstd, Size: int64(len(all)), OpenRange: ranged(all)}}
	archive := writeSpliced(t, []File{huge, Bytes("app/after", at, []byte("after"))}, Zstd)
	for _, script := range []string{`tar --zstd -tvf "$1"`, `bsdtar -tvf "$1"`} {
		t.Run(script, func(t *testing.T) {
			for _, program := range []string{strings.Fields(script)[0], "zstd"} {
				if _, err := exec.LookPath(program); err != nil {
					t.Skipf("%s is not installed", program)
				}
			}
			out := run(t, t.TempDir(), script, archive)
			if !strings.Contains(out, fmt.Sprint(8<<30+piece)) || !strings.Contains(out, "app/after") {
				t.Errorf("listing is\n%s", out)
			}
		})
	}
}

// Offsets beyond 8 GiB are offsets like any others.
func TestRangesOfHugeArchives(t *testing.T) {
	const huge = 3 << 40
	var asked []int64
	f := File{Name: "app/huge", Size: huge, ModTime: at, OpenRange: func(_ context.Context, offset, length int64) (io.ReadCloser, error) {
		asked = append(asked, offset, length)
		return io.NopCloser(bytes.NewReader(make([]byte, length))), nil
	}}
	a, err := New([]File{f, Bytes("app/after", at, []byte("after"))})
	if err != nil {
		t.Fatal(err)
	}
	r, err := a.OpenRange(t.Context(), huge, a.Size()-huge)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil || fmt.Sprint(asked) != fmt.Sprint([]int64{huge - blockSize, blockSize}) {
		t.Fatal(err, asked)
	}
	h, err := tar.NewReader(bytes.NewReader(b[blockSize:])).Next()
	if err != nil || h.Name != "app/after" {
		t.Error(h, err)
	}
}

// FuzzRange: any range of any layout is that range of the whole.
func FuzzRange(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4}, uint16(0), uint16(100), uint8(1))
	f.Add([]byte{}, uint16(1), uint16(1), uint8(2))
	f.Fuzz(func(t *testing.T, sizes []byte, offset, length uint16, encoding uint8) {
		e := Encoding(encoding % 3)
		var files []File
		for i, n := range sizes[:min(len(sizes), 20)] {
			content := bytes.Repeat([]byte{n}, int(n)*5)
			file := Bytes(fmt.Sprint(i), at, content)
			if n%3 == 0 {
				file.OpenRange = nil
			}
			if n%3 == 1 {
				file.Stored = &Stored{Encoding: e, Size: e.wrappedSize(file.Size), OpenRange: ranged(e.wrap(content))}
			}
			if e == Plain {
				file.Stored = nil
			}
			files = append(files, file)
		}
		a, err := Splice(files, e)
		if err != nil {
			t.Fatal(err)
		}
		whole := readAll(t, a)
		r, err := a.OpenRange(t.Context(), int64(offset), int64(length))
		if (int(offset)+int(length) > len(whole)) != (err != nil) {
			t.Fatalf("%d bytes at %d of %d: %v", length, offset, len(whole), err)
		}
		if err != nil {
			return
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, whole[offset:int(offset)+int(length)]) {
			t.Fatalf("%d bytes at %d of %d: got %d, %v", length, offset, len(whole), len(got), err)
		}
	})
}

// frameSize makes several frames of small contents without making thousands of large ones.
func frameSize(n int) int { return max(1000, n/16) }
