// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/klauspost/compress/zstd"
)

func compressed(t testing.TB, c Codec, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := c.NewWriter(&out, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestCodecs(t *testing.T) {
	for name, codec := range map[string]Codec{"zstd": CodecZstd, "gzip": CodecGzip, "none": CodecNone} {
		if c, err := ParseCodec(name); err != nil || c != codec {
			t.Errorf("%s: got %q, %v", name, c, err)
		}
		data := bytes.Repeat([]byte("0123456789"), 300_000)
		stored := compressed(t, codec, data)
		r, err := codec.NewReader(bytes.NewReader(append(stored, stored...))) // streams may follow each other
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, append(data, data...)) {
			t.Errorf("%s: got %d bytes, %v", name, len(got), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := ParseCodec("lz4"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "zstd, gzip or none") {
		t.Errorf("got %v", err)
	}
	if _, err := Codec("lz4").NewWriter(io.Discard, 1); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if _, err := Codec("lz4").NewReader(strings.NewReader("")); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsNotOfTheCodecIsCorruptAndWhatCannotBeReadIsNot(t *testing.T) {
	away := errors.New("away")
	for _, codec := range []Codec{CodecZstd, CodecGzip} {
		stored := compressed(t, codec, bytes.Repeat([]byte("0123456789"), 100_000))
		read := func(src io.Reader) error {
			r, err := codec.NewReader(src)
			if err != nil {
				return err
			}
			defer r.Close()
			_, err = io.Copy(io.Discard, r)
			return err
		}
		for name, data := range map[string][]byte{"cut": stored[:len(stored)-1], "half": stored[:len(stored)/2], "other": []byte("something else"), "a byte": {0}} {
			if err := read(bytes.NewReader(data)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s %s: got %v, want %v", codec, name, err, ErrCorrupt)
			}
		}
		for _, n := range []int{0, 1, len(stored) / 2, len(stored)} {
			if err := read(io.MultiReader(bytes.NewReader(stored[:n]), failing{away})); !errors.Is(err, away) || errors.Is(err, ErrCorrupt) {
				t.Errorf("%s, away after %d bytes: got %v", codec, n, err)
			}
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestAWindowThatTakesTooMuchMemoryIsRefused(t *testing.T) {
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithWindowSize(2*zstdMaxWindow), zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.CopyN(w, zeros{}, 4*zstdMaxWindow)
	w.Close()
	r, err := CodecZstd.NewReader(&out)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v, want %v", err, ErrCorrupt)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func FuzzDecompress(f *testing.F) {
	for _, c := range []Codec{CodecZstd, CodecGzip} {
		f.Add(c == CodecGzip, compressed(f, c, []byte("hello, core")))
		f.Add(c == CodecGzip, compressed(f, c, nil))
	}
	f.Fuzz(func(t *testing.T, gzip bool, data []byte) {
		codec := map[bool]Codec{false: CodecZstd, true: CodecGzip}[gzip]
		r, err := codec.NewReader(bytes.NewReader(data))
		if err == nil {
			defer r.Close()
			_, err = io.CopyN(io.Discard, r, 64<<20)
		}
		if err != nil && err != io.EOF && !errors.Is(err, ErrCorrupt) {
			t.Errorf("got %v, want %v", err, ErrCorrupt)
		}
	})
}

// A reader that goes away while the last blocks are on their way is noticed by Close. The goroutines end all the same.
func TestNothingIsLeftOfAStreamThatCouldNotBeClosed(t *testing.T) {
	for _, c := range []Codec{CodecZstd, CodecGzip} {
		t.Run(string(c), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // fails where a goroutine is left
				w, err := c.NewWriter(gone{}, 2)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write(make([]byte, gzipBlock)); err != nil && !errors.Is(err, io.ErrClosedPipe) {
					t.Fatal(err)
				}
				synctest.Wait() // it has been tried to write the block
				if err := w.Close(); !errors.Is(err, io.ErrClosedPipe) {
					t.Errorf("closed: %v", err)
				}
				w.Abort()
				w.Abort()
			})
		})
	}
}

// gone takes the header of gzip and nothing else.
type gone struct{}

func (gone) Write(p []byte) (int, error) {
	if len(p) <= 10 {
		return len(p), nil
	}
	return 0, io.ErrClosedPipe
}
