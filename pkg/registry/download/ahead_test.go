// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package download

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// What is read ahead comes whole and in order, however little the reader gives at a time, and ends as the reader does: one that was cut off is no end.
func TestWhatIsReadAheadComesWhole(t *testing.T) {
	for _, size := range []int{0, 1, 1000, chunk - 1, chunk, chunk + 1, 3*chunk + 7} {
		want := bytes.Repeat([]byte("0123456"), size/7+1)[:size]
		for name, r := range map[string]io.Reader{
			"at once": bytes.NewReader(want), "in halves": iotest.HalfReader(bytes.NewReader(want)), "with its end": iotest.DataErrReader(bytes.NewReader(want)),
		} {
			for _, length := range []int64{int64(size), int64(size) + 1, 1 << 40} {
				var got bytes.Buffer
				a := readAhead(r, length)
				err := a.writeTo(&got)
				a.close()
				if err != nil || !bytes.Equal(got.Bytes(), want) {
					t.Fatalf("%d bytes %s: %d came, %v", size, name, got.Len(), err)
				}
				r = bytes.NewReader(want)
			}
		}
		for _, cut := range []error{io.ErrUnexpectedEOF, errors.New("away")} {
			var got bytes.Buffer
			a := readAhead(io.MultiReader(bytes.NewReader(want), iotest.ErrReader(cut)), int64(size)+1)
			if err := a.writeTo(&got); !errors.Is(err, cut) || !bytes.Equal(got.Bytes(), want) {
				t.Errorf("cut off after %d: %d came, %v, want %v", size, got.Len(), err, cut)
			}
			a.close()
		}
	}
}

// A client that is gone ends the reading, and nobody is left behind.
func TestNobodyReadsAheadForWhoIsGone(t *testing.T) {
	gone := errors.New("gone")
	r := &counted{}
	a := readAhead(r, 1<<40)
	if err := a.writeTo(failing{gone}); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	a.close()
	if n := r.n; n > chunks*chunk {
		t.Errorf("%d bytes were read", n)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// counted has no end.
type counted struct{ n int }

func (c *counted) Read(p []byte) (int, error) { c.n += len(p); return len(p), nil }

// Decoders of what strangers have stored are among what is read. One that panics ends its request, as it did in the handler, and not the server.
func TestAPanicOfWhatIsReadAheadEndsTheRequestAlone(t *testing.T) {
	var sent bytes.Buffer
	a := readAhead(io.MultiReader(strings.NewReader(strings.Repeat("x", 2*chunk)), panics{}), 3*chunk)
	err := a.writeTo(&sent)
	if err == nil || !strings.Contains(err.Error(), "index out of range") || !strings.Contains(err.Error(), "panics.Read") {
		t.Errorf("got %v, want the panic and where it was", err)
	}
	if sent.Len() != 2*chunk {
		t.Errorf("%d bytes were sent", sent.Len())
	}
	a.close()
}

type panics struct{}

func (panics) Read([]byte) (int, error) { panic("index out of range") }
