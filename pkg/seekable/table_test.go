// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package seekable

import (
	"bytes"
	"errors"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// What reads one kind of format that others have written reads ours only by chance. zstd's own examples make this one:
// without checksums, and with a skippable frame that has an entry of its own.
func TestTableOfOthers(t *testing.T) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false))
	if err != nil {
		t.Fatal(err)
	}
	table := &Table{}
	var stream []byte
	for _, content := range []string{"core ", "dump"} {
		f := e.EncodeAll([]byte(content), nil)
		table.add(len(f), len(content), 0)
		stream = append(stream, f...)
		skippable := []byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 'x'}
		table.add(len(skippable), 0, 0)
		stream = append(stream, skippable...)
	}
	src := &requests{b: append(stream, table.encode()...)}
	got, err := ReadTable(t.Context(), src.Open, int64(len(src.b)))
	if err != nil {
		t.Fatal(err)
	}
	for offset := range int64(9) {
		for length := range 10 - offset {
			b, err := readRange(got, src.Open, offset, length, 2)
			if err != nil || string(b) != "core dump"[offset:offset+length] {
				t.Errorf("%d bytes at %d: %q, %v", length, offset, b, err)
			}
		}
	}
}

// A table that is longer than what is read at first takes a second request, and no third.
func TestLongTable(t *testing.T) {
	content := likeCore(60_000)
	src := &requests{b: compress(t, content, Options{FrameSize: 10})}
	table, err := ReadTable(t.Context(), src.Open, int64(len(src.b)))
	if err != nil || table.Frames() != 6000 || src.calls != 2 || src.open != 0 {
		t.Fatalf("%v, %d requests, %d open", err, src.calls, src.open)
	}
	got, err := readRange(table, src.Open, 29_999, 30_000, 2)
	if err != nil || !bytes.Equal(got, content[29_999:59_999]) {
		t.Error(len(got), err)
	}
}

func TestTruncatedStreamIsNoticed(t *testing.T) {
	good := compress(t, likeCore(3_000), Options{FrameSize: 1000})
	for n := range good {
		src := &requests{b: good[:n]}
		if _, err := ReadTable(t.Context(), src.Open, int64(n)); !errors.Is(err, ErrNoTable) {
			t.Errorf("%d of %d bytes: %v", n, len(good), err)
		}
	}
}

// FuzzTable: a table of foreign bytes is refused, or it is within what readers rely on and encodes to what it was.
func FuzzTable(f *testing.F) {
	good := compress(f, likeCore(500), Options{FrameSize: 100})
	f.Add(good, int64(len(good)))
	f.Add(good[len(good)-80:], int64(len(good)))
	f.Add([]byte{0x5e, 0x2a, 0x4d, 0x18, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0xb1, 0xea, 0x92, 0x8f}, int64(17))
	f.Fuzz(func(t *testing.T, tail []byte, size int64) {
		table, err := ParseTable(tail, size)
		if err != nil {
			if !errors.Is(err, ErrNoTable) && !errors.Is(err, ErrCorrupt) || len(err.Error()) > 300 {
				t.Fatalf("error is %v", err)
			}
			return
		}
		var offset, content int64
		for i := range table.Frames() {
			f := table.Frame(i)
			if f.Offset != offset || f.ContentOffset != content || f.StoredSize < 0 || f.Size < 0 || f.StoredSize > MaxFrameSize || f.Size > MaxFrameSize {
				t.Fatalf("frame %d is %+v", i, f)
			}
			offset += f.StoredSize
			content += f.Size
		}
		if table.Size() != content || table.StoredSize() != size {
			t.Fatalf("table of %d and %d bytes, want %d and %d", table.Size(), table.StoredSize(), content, size)
		}
		again := table.encode()
		at := len(tail) - len(again)
		was := bytes.Clone(tail[at:])
		was[len(was)-5] &= checksumFlag // unused bits
		if !bytes.Equal(again, was) {
			t.Fatal("it encodes to something else")
		}
		if content > 0 {
			first, end := table.Range(content-1, 1)
			if end != first+1 {
				t.Fatalf("the last byte is in frames %d to %d", first, end)
			}
		}
	})
}
