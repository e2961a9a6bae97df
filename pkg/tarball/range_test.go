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
	"testing"
	"testing/iotest"
)

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
