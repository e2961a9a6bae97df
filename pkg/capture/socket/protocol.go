// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"encoding/binary"
	"fmt"
	"io"
)

// The protocol of include/uapi/linux/coredump.h (Linux 6.17): the kernel sends a request, gets an acknowledgement, answers with a mark, and then sends the
// core. All numbers are in the byte order of the machine. Sizes in front let either side be older than the other.
const (
	requestSize = 16 // COREDUMP_REQ_SIZE_VER0: u32 size, u32 size_ack, u64 mask
	ackSize     = 16 // COREDUMP_ACK_SIZE_VER0: u32 size, u32 spare, u64 mask
	// maxRequest bounds what a newer kernel may say in addition; it is not understood. The kernel's own bound for such structures is a page.
	maxRequest = 4096
)

// Bits of the masks: what the kernel offers, and what is asked for. 1<<1 is for servers that make a core of their own.
const (
	bitKernel = 1 << 0 // the kernel writes the core to the socket
	bitReject = 1 << 2 // no core
	bitWait   = 1 << 3 // the process stays until the server closes the connection
)

// marks are what the kernel says of an acknowledgement.
var marks = []string{
	0: "",
	1: "it is too small",
	2: "it is too large",
	3: "it asks for what this kernel does not know",
	4: "what it asks for contradicts itself",
}

// request is what the kernel offers.
type request struct {
	size, ackSize uint32
	mask          uint64
}

// readRequest reads it whole, whatever a newer kernel has in it beside.
func readRequest(r io.Reader) (request, error) {
	var b [requestSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return request{}, fmt.Errorf("read the kernel's request: %w", err)
	}
	q := request{binary.NativeEndian.Uint32(b[0:]), binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint64(b[8:])}
	switch {
	case q.size < requestSize || q.size > maxRequest:
		return q, fmt.Errorf("read the kernel's request: its size is %d, must be from %d to %d", q.size, requestSize, maxRequest)
	case q.ackSize < ackSize:
		return q, fmt.Errorf("read the kernel's request: it wants %d bytes as an answer, fewer than there ever were", q.ackSize)
	}
	if _, err := io.CopyN(io.Discard, r, int64(q.size-requestSize)); err != nil {
		return q, fmt.Errorf("read the kernel's request: %w", err)
	}
	return q, nil
}

// acknowledge asks for mask and reads what the kernel says to that.
func acknowledge(rw io.ReadWriter, mask uint64) error {
	var b [ackSize]byte
	binary.NativeEndian.PutUint32(b[0:], ackSize)
	binary.NativeEndian.PutUint64(b[8:], mask)
	if _, err := rw.Write(b[:]); err != nil {
		return fmt.Errorf("answer the kernel's request: %w", err)
	}
	var m [4]byte
	if _, err := io.ReadFull(rw, m[:]); err != nil {
		return fmt.Errorf("read what the kernel says to the answer: %w", err)
	}
	mark := binary.NativeEndian.Uint32(m[:])
	switch {
	case mark == 0:
		return nil
	case int(mark) < len(marks):
		return fmt.Errorf("the kernel refused the answer: %s", marks[mark])
	}
	return fmt.Errorf("the kernel refused the answer, with the mark %d", mark)
}
