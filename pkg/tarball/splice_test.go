// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package tarball

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
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

func TestStoredThatCannotBe(t *testing.T) {
	f := file("app/core", nil)
	for _, s := range []Stored{{Encoding: Plain}, {Encoding: Zstd, Size: -1}} {
		f.Stored = &s
		if _, err := Splice([]File{f}, Zstd); err == nil {
			t.Errorf("%+v was accepted", s)
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

// frameSize makes several frames of small contents without making thousands of large ones.
func frameSize(n int) int { return max(1000, n/16) }
