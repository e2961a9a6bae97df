// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package tarball

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

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
