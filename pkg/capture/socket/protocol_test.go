// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"
)

// kernel is the kernel's side of a connection: what it says, and what it is told.
type kernel struct {
	io.Reader
	told bytes.Buffer
}

func (k *kernel) Write(b []byte) (int, error) { return k.told.Write(b) }

func encodeRequest(size, ackSize uint32, mask uint64, more ...byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, size)
	b = binary.NativeEndian.AppendUint32(b, ackSize)
	return append(binary.NativeEndian.AppendUint64(b, mask), more...)
}

func TestRequestsOfNewerKernelsAreReadWhole(t *testing.T) {
	r := bytes.NewReader(append(encodeRequest(24, 32, 0xff, make([]byte, 8)...), "next"...))
	q, err := readRequest(r)
	if err != nil || q != (request{24, 32, 0xff}) {
		t.Fatal(q, err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "next" {
		t.Errorf("what comes next begins with %q", rest)
	}
}

func TestRequestsThatCannotBeAreRefused(t *testing.T) {
	for what, b := range map[string][]byte{
		"none":         nil,
		"cut":          encodeRequest(16, 16, 15)[:15],
		"small":        encodeRequest(15, 16, 15),
		"huge":         encodeRequest(1<<31, 16, 15),
		"cut behind":   encodeRequest(24, 16, 15, 1, 2),
		"small answer": encodeRequest(16, 8, 15),
	} {
		if _, err := readRequest(bytes.NewReader(b)); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

func TestTheAnswerIsAsTheKernelWantsIt(t *testing.T) {
	k := &kernel{Reader: bytes.NewReader(make([]byte, 4))}
	if err := acknowledge(k, bitKernel|bitWait); err != nil {
		t.Fatal(err)
	}
	if want := encodeRequest(16, 0, 9); !bytes.Equal(k.told.Bytes(), want) {
		t.Errorf("%x, want %x", k.told.Bytes(), want)
	}
}

func TestWhatTheKernelRefusesIsToldInWords(t *testing.T) {
	for mark, words := range map[uint32]string{1: "too small", 2: "too large", 3: "does not know", 4: "contradicts", 77: "mark 77"} {
		k := &kernel{Reader: bytes.NewReader(binary.NativeEndian.AppendUint32(nil, mark))}
		if err := acknowledge(k, bitReject); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%d: %v", mark, err)
		}
	}
	if err := acknowledge(&kernel{Reader: bytes.NewReader([]byte{0, 0})}, bitReject); err == nil {
		t.Error("half a mark is taken")
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(encodeRequest(16, 16, 15))
	f.Add(encodeRequest(24, 16, 15, make([]byte, 8)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		q, err := readRequest(r)
		if read := len(b) - r.Len(); read > maxRequest || err == nil && read != int(q.size) {
			t.Errorf("%d bytes read of %+v", read, q)
		}
	})
}
