// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// Spans are what a set of bytes would be.
func TestSpansAreASet(t *testing.T) {
	const size = 40
	for seed := range uint64(300) {
		r := seeded(seed)
		var set [size]bool
		var ss spans
		for range 30 {
			from := r.Int64N(size)
			s := span{from, from + r.Int64N(size-from+1)}
			add := r.IntN(3) > 0
			if add {
				ss = ss.add(s)
			} else {
				ss = ss.remove(s)
			}
			n := int64(0)
			for i := range int64(size) {
				if s.from <= i && i < s.to {
					set[i] = add
				}
				if set[i] {
					n++
				}
				if in := ss.reach(i) > i; in != set[i] {
					t.Fatalf("seed %d: %v: byte %d", seed, ss, i)
				}
			}
			for i, e := range ss {
				if e.len() <= 0 || i > 0 && ss[i-1].to >= e.from {
					t.Fatalf("seed %d: %v", seed, ss)
				}
			}
			limit := 1 + r.Int64N(size)
			g := ss.gap(span{0, size}, limit)
			if ss.sum() != n || g.len() > limit || g.len() == 0 && n < size {
				t.Fatalf("seed %d: %v has %d bytes, gap %v, want %d", seed, ss, ss.sum(), g, n)
			}
			for i := range g.to {
				if set[i] != (i < g.from) {
					t.Fatalf("seed %d: %v: gap %v, byte %d", seed, ss, g, i)
				}
			}
		}
	}
}

// FuzzState: a state file, whoever wrote it, says nothing that is outside of the object; cut off anywhere, it says no more than whole.
func FuzzState(f *testing.F) {
	h := header{Version: 1, Object: "a/b", ETag: `"x"`, Size: 100, SHA256: "00"}
	first := `{"version":1,"object":"a/b","etag":"\"x\"","size":100,"sha256":"00"}` + "\n"
	for _, s := range []string{"", first, first + "+ 0 10\n+ 10 20\n- 5 7\n+ 90 1", first + "+ 0 101\n", first + "+ -1 5\n", first + "+ 5 5\n", first + "* 1 2\n", strings.Replace(first, "100", "101", 1) + "+ 0 1\n",
		first + "+ 9223372036854775807 9223372036854775808\n", first + "+  1\t2 \n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		done, end, ok := readState(strings.NewReader(s), h)
		if !ok && (len(done) > 0 || end > 0) || end > int64(len(s)) || end > 0 && s[end-1] != '\n' {
			t.Fatalf("%q: %v, %d, %v", s, done, end, ok)
		}
		for i, e := range done {
			if e.from < 0 || e.to > 100 || e.len() <= 0 || i > 0 && done[i-1].to >= e.from {
				t.Fatalf("%q: %v", s, done)
			}
		}
		path := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		again, note, err := openState(w, h)
		if err != nil || fmt.Sprint(again) != fmt.Sprint(done) {
			t.Fatalf("%q: %v, %v", s, again, err)
		}
		if err := note(true, span{40, 50}); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, _, ok := readState(bytes.NewReader(data), h); !ok || fmt.Sprint(got) != fmt.Sprint(done.add(span{40, 50})) {
			t.Fatalf("%q becomes %q: %v", s, data, got)
		}
	})
}

// FuzzContentRange: what is accepted is a range within its total.
func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/100", "bytes 0-9/*", "bytes */100", "bytes 9-0/100", "bytes 0-100/100", "bytes 0-9/9999999999999999999", "items 0-1/2", "bytes +0-9/100", "bytes 0--9/100"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		from, to, total, err := contentRange(s)
		if err == nil && (from < 0 || from > to || to >= total || !strings.HasPrefix(s, "bytes ")) {
			t.Errorf("%q: %d-%d/%d", s, from, to, total)
		}
	})
}

// Ten GiB of zeros behind a record that announces a thousand bytes. A table that says what they are is in TestLies.
func TestZeroBomb(t *testing.T) {
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := bytes.Repeat(e.EncodeAll(make([]byte, 32<<20), nil), 10<<30/(32<<20))
	for _, plain := range []bool{false, true} {
		s := newServer(t, bomb)
		s.plain = plain
		p := newPlace(t)
		_, err := p.fetch(s, Dump{ID: "x", Size: 1000, ObjectSize: int64(len(bomb)), Compressed: true}, quick())
		fails(t, err, ErrWrong, "more than the 1000 bytes")
		p.empty()
	}
}
