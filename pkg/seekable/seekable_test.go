// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package seekable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"example.io/coredump/pkg/seekable/seekabletest"
)

// compress gives a stream, written in pieces of odd sizes.
func compress(t testing.TB, content []byte, o Options) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := NewWriter(&b, o)
	if err != nil {
		t.Fatal(err)
	}
	for rest := content; len(rest) > 0; {
		n := min(1+rand.IntN(3*len(content)/2), len(rest))
		if m, err := z.Write(rest[:n]); m != n || err != nil {
			t.Fatal(m, err)
		}
		rest = rest[n:]
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if got := z.Table().StoredSize(); got != int64(b.Len()) {
		t.Fatalf("the table says %d bytes, %d were written", got, b.Len())
	}
	return b.Bytes()
}

// likeCore is content that compresses as cores do.
func likeCore(n int) []byte {
	return seekabletest.LikeCore(rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())), n, n/3+1)
}

// requests opens ranges of b and counts the bytes that were asked for.
type requests struct {
	b     []byte
	calls int
	bytes int64
	open  int
}

func (r *requests) Open(_ context.Context, offset, length int64) (io.ReadCloser, error) {
	r.calls++
	r.bytes += length
	r.open++
	return &closer{Reader: bytes.NewReader(r.b[offset : offset+length]), closed: func() { r.open-- }}, nil
}

type closer struct {
	io.Reader
	closed func()
}

func (c *closer) Close() error {
	c.closed()
	return nil
}

func readRange(t *Table, open Opener, offset, length int64, workers int) ([]byte, error) {
	r, err := Open(context.Background(), t, open, offset, length, workers)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Any range of any content comes back, from no more frames than it is in.
func TestAnyRangeOfAnyContent(t *testing.T) {
	for _, size := range []int{0, 1, 999, 1000, 1001, 2000, 5_000, 100_003} {
		for _, workers := range []int{0, 1, 2, 5} {
			t.Run(fmt.Sprint(size, "/", workers), func(t *testing.T) {
				content := likeCore(size)
				src := &requests{b: compress(t, content, Options{Workers: workers, FrameSize: 1000})}
				table, err := ReadTable(t.Context(), src.Open, int64(len(src.b)))
				if err != nil {
					t.Fatal(err)
				}
				if table.Size() != int64(size) || table.Frames() != (size+999)/1000 || !table.HasChecksums() {
					t.Fatalf("table has %d bytes in %d frames", table.Size(), table.Frames())
				}
				ranges := [][2]int{{0, size}, {size, 0}, {0, 0}}
				for range 40 {
					offset := rand.IntN(size + 1)
					ranges = append(ranges, [2]int{offset, rand.IntN(size - offset + 1)})
				}
				for _, r := range ranges {
					src.calls, src.bytes = 0, 0
					got, err := readRange(table, src.Open, int64(r[0]), int64(r[1]), workers)
					if err != nil || !bytes.Equal(got, content[r[0]:r[0]+r[1]]) {
						t.Fatalf("%d bytes at %d: got %d, %v", r[1], r[0], len(got), err)
					}
					first, end := table.Range(int64(r[0]), int64(r[1]))
					var want int64
					for i := first; i < end; i++ {
						f := table.Frame(i)
						want += f.StoredSize
						if f.ContentOffset >= int64(r[0]+r[1]) || f.ContentOffset+f.Size <= int64(r[0]) {
							t.Errorf("%d bytes at %d: frame %d is not needed: %+v", r[1], r[0], i, f)
						}
					}
					if src.bytes != want || src.calls > 1 || src.open != 0 {
						t.Errorf("%d bytes at %d: read %d bytes in %d requests, %d are open; want %d", r[1], r[0], src.bytes, src.calls, src.open, want)
					}
				}
			})
		}
	}
}

func TestRangeOutsideOfTheContentIsRefused(t *testing.T) {
	src := &requests{b: compress(t, make([]byte, 100), Options{FrameSize: 10})}
	table, err := ReadTable(t.Context(), src.Open, int64(len(src.b)))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]int64{{-1, 1}, {0, -1}, {0, 101}, {100, 1}, {101, 0}, {1, 1<<63 - 1}, {1<<63 - 1, 1<<63 - 1}} {
		if _, err := readRange(table, src.Open, r[0], r[1], 1); err == nil {
			t.Errorf("%v was accepted", r)
		}
	}
}

// A flipped bit anywhere never gives other bytes than the content's.
func TestFlippedBitIsNoticed(t *testing.T) {
	content := likeCore(3_000)
	good := compress(t, content, Options{FrameSize: 1000})
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << rand.IntN(8)
		src := &requests{b: bad}
		table, err := ReadTable(t.Context(), src.Open, int64(len(bad)))
		if err == nil {
			var got []byte
			got, err = readRange(table, src.Open, 0, table.Size(), 2)
			if !bytes.HasPrefix(content, got) {
				t.Fatalf("byte %d: other content comes out", i)
			}
			if err == nil && len(got) == len(content) {
				// Bits that mean nothing: unused bits of the descriptor, the reserved ones of a frame header.
				continue
			}
		}
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNoTable) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
}

// Frames that are good by themselves, but not the ones that the table is about.
func TestFramesInOtherPlacesAreNoticed(t *testing.T) {
	content := make([]byte, 2000)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	stream := compress(t, content, Options{FrameSize: 1000})
	table, err := ParseTable(stream, int64(len(stream)))
	if err != nil {
		t.Fatal(err)
	}
	first, second := table.Frame(0), table.Frame(1)
	if first.StoredSize != second.StoredSize {
		t.Fatalf("frames are %+v and %+v", first, second)
	}
	swapped := bytes.Join([][]byte{stream[second.Offset:][:second.StoredSize], stream[:first.StoredSize], stream[second.Offset+second.StoredSize:]}, nil)
	src := &requests{b: swapped}
	if got, err := readRange(table, src.Open, 0, 1000, 1); !errors.Is(err, ErrCorrupt) || len(got) > 0 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// A frame that has more than its table says, ten GiB of zeros as it were, is not decompressed further than that.
func TestFrameOfMoreThanTheTableSays(t *testing.T) {
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := e.EncodeAll(make([]byte, 32<<20), nil)
	for _, size := range []int{1, 1000, 32<<20 - 1, 32<<20 + 1} {
		table := &Table{}
		table.add(len(bomb), size, 0)
		src := &requests{b: append(bytes.Clone(bomb), table.encode()...)}
		if _, err := readRange(table, src.Open, 0, 1, 1); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestSourceThatFailsOrEnds(t *testing.T) {
	content := likeCore(50_000)
	stream := compress(t, content, Options{FrameSize: 1000})
	table, err := ParseTable(stream, int64(len(stream)))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		open Opener
		want error
	}{
		{"is not there", func(context.Context, int64, int64) (io.ReadCloser, error) { return nil, errBroken }, errBroken},
		{"breaks", func(_ context.Context, o, n int64) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(stream[o:o+n/2]), iotest.ErrReader(errBroken))), nil
		}, errBroken},
		{"ends", func(_ context.Context, o, n int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(stream[o : o+n/2])), nil
		}, ErrCorrupt},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			got, err := readRange(table, test.open, 0, table.Size(), 3)
			if !errors.Is(err, test.want) || !bytes.HasPrefix(content, got) {
				t.Errorf("%d bytes, then %v, want %v", len(got), err, test.want)
			}
			noneLeft(t, before)
		})
	}
}

func TestCloseInTheMiddleLeavesNothing(t *testing.T) {
	src := &requests{b: compress(t, likeCore(100_000), Options{FrameSize: 1000})}
	table, err := ReadTable(t.Context(), src.Open, int64(len(src.b)))
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for n := range 5 {
		r, err := Open(t.Context(), table, src.Open, 0, table.Size(), 3)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, r, int64(n)*700); err != nil {
			t.Fatal(err)
		}
		r.Close()
		r.Close()
		if _, err := r.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("reading after Close gives %v", err)
		}
	}
	noneLeft(t, before)
	if src.open != 0 {
		t.Errorf("%d requests are left open", src.open)
	}
}

// Memory does not depend on how long a core is.
func TestMemoryIsBounded(t *testing.T) {
	const size = 256 << 20
	stream := filepath.Join(t.TempDir(), "core.zst")
	f, err := os.Create(stream)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := NewWriter(f, Options{Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	piece := likeCore(1<<20 + 1)
	limit := live() + 2*3*2*FrameSize + 32<<20 // frames, before and after, and what encoders keep
	for written := 0; written < size; written += len(piece) {
		if _, err := z.Write(piece); err != nil {
			t.Fatal(err)
		}
		if written>>20%64 == 0 && live() > limit {
			t.Fatalf("%d bytes are in use after %d, want at most %d", live(), written, limit)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	open := func(_ context.Context, offset, length int64) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(f, offset, length)), nil
	}
	r, err := Open(t.Context(), z.Table(), open, 0, z.Table().Size(), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for read := 0; ; read++ {
		if _, err := io.CopyN(io.Discard, r, 64<<20); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if live() > limit {
			t.Fatalf("%d bytes are in use after %d MiB, want at most %d", live(), read*64, limit)
		}
	}
}

func live() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// FuzzOpen: whatever the bytes are, reading ends with the content of the table's length, or with an error of a known kind.
func FuzzOpen(f *testing.F) {
	f.Add(compress(f, likeCore(500), Options{FrameSize: 100}), uint16(0), uint16(500))
	f.Fuzz(func(t *testing.T, stream []byte, offset, length uint16) {
		src := &requests{b: stream}
		table, err := ReadTable(t.Context(), src.Open, int64(len(stream)))
		if err != nil || table.Size() > 1<<20 || int64(offset)+int64(length) > table.Size() {
			return
		}
		got, err := readRange(table, src.Open, int64(offset), int64(length), 2)
		if err == nil && len(got) != int(length) || err != nil && !errors.Is(err, ErrCorrupt) || src.open != 0 {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	})
}

// short takes less than it is given and does not say why.
type short struct{ n, calls int }

func (s *short) Write(p []byte) (int, error) {
	if s.calls++; s.calls > 10 {
		return 0, errors.New("it is tried again and again")
	}
	return min(len(p), s.n), nil
}

func TestAWriterThatTakesTooLittleIsNotGivenTheRest(t *testing.T) {
	b := compress(t, likeCore(5000), Options{FrameSize: 1000})
	src := &requests{b: b}
	table, err := ReadTable(t.Context(), src.Open, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 10} {
		r, err := Open(t.Context(), table, src.Open, 0, table.Size(), 2)
		if err != nil {
			t.Fatal(err)
		}
		w := &short{n: n}
		if m, err := io.Copy(w, r); err != io.ErrShortWrite || m != int64(n) || w.calls != 1 {
			t.Errorf("%d bytes after %d calls, %v", m, w.calls, err)
		}
		r.Close()
	}
}
