// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package seekable

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// The stream is the same whatever the workers and the writes are, so an upload that is made again stores the same bytes.
func TestStreamIsDeterministic(t *testing.T) {
	content := likeCore(300_000)
	want := compress(t, content, Options{FrameSize: 4096})
	for _, workers := range []int{1, 2, 3, 8} {
		if got := compress(t, content, Options{FrameSize: 4096, Workers: workers}); !bytes.Equal(got, want) {
			t.Errorf("%d workers give other bytes than one", workers)
		}
	}
}

// The largest allowed frames do not ask more of a decoder than it has to support.
func TestWindowIsBounded(t *testing.T) {
	var h zstd.Header
	if err := h.Decode(compress(t, make([]byte, MaxFrameSize/2), Options{FrameSize: MaxFrameSize / 2})); err != nil {
		t.Fatal(err)
	}
	if h.WindowSize > maxWindow || h.SingleSegment {
		t.Errorf("window is %d, single segment %v", h.WindowSize, h.SingleSegment)
	}
}

var errBroken = errors.New("it broke")

// noneLeft checks that there are no more goroutines than before. One that has done its work may still be on its way out.
func noneLeft(t *testing.T, before int) {
	t.Helper()
	for range 100_000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines are left", runtime.NumGoroutine()-before)
}

// failing fails from byte n on.
type failing struct{ n int }

func (f *failing) Write(p []byte) (int, error) {
	f.n -= len(p)
	if f.n < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

func TestWriterThatFailsEndsTheStream(t *testing.T) {
	content := likeCore(50_000)
	whole := len(compress(t, content, Options{FrameSize: 1000}))
	for _, n := range []int{0, 1, whole / 2, whole - 1, whole} {
		before := runtime.NumGoroutine()
		z, err := NewWriter(&failing{n}, Options{FrameSize: 1000, Workers: 3})
		if err != nil {
			t.Fatal(err)
		}
		_, err = z.Write(content)
		if err != nil && !errors.Is(err, errBroken) {
			t.Errorf("writing gives %v", err)
		}
		err = z.Close()
		if (n < whole) != errors.Is(err, errBroken) || n == whole && err != nil {
			t.Errorf("after %d of %d bytes Close gives %v", n, whole, err)
		}
		if again := z.Close(); again != err {
			t.Errorf("a second Close gives %v after %v", again, err)
		}
		if _, err := z.Write(content); err == nil {
			t.Error("writing after Close is accepted")
		}
		noneLeft(t, before)
	}
}

func TestAbortedStreamHasNoTable(t *testing.T) {
	var b bytes.Buffer
	z, err := NewWriter(&b, Options{FrameSize: 100, Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(likeCore(12_345)); err != nil {
		t.Fatal(err)
	}
	z.Abort()
	z.Abort()
	if err := z.Close(); err == nil {
		t.Error("Close after Abort says that the stream is complete")
	}
	src := &requests{b: b.Bytes()}
	if _, err := ReadTable(t.Context(), src.Open, int64(b.Len())); !errors.Is(err, ErrNoTable) {
		t.Errorf("reading the table gives %v", err)
	}
}

func TestBadOptions(t *testing.T) {
	for _, size := range []int{-1, MaxFrameSize/2 + 1} {
		if _, err := NewWriter(io.Discard, Options{FrameSize: size}); err == nil {
			t.Errorf("frame size %d is accepted", size)
		}
	}
}
