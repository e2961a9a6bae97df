// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package tarball

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"io"

	"github.com/cespare/xxhash/v2"
)

// Encoding is how an archive, or the stored content of a file, is compressed. Both that are not Plain can be concatenated.
type Encoding int

// The encodings.
const (
	Plain Encoding = iota
	// Zstd is one zstd frame or more (RFC 8878).
	Zstd
	// Gzip is one gzip member or more (RFC 1952).
	Gzip
)

const (
	zstdBlock = 128 << 10 // Block_Maximum_Size
	gzipBlock = 1<<16 - 1 // LEN of a stored block
)

// wrappedSize is the length of what wrap makes of n bytes.
func (e Encoding) wrappedSize(n int64) int64 {
	switch e {
	case Zstd:
		return 10 + blocks(n, zstdBlock)*3 + n + 4
	case Gzip:
		return 10 + blocks(n, gzipBlock)*5 + n + 8
	}
	return n
}

// blocks is how many blocks n bytes take: at least one, for the last is marked.
func blocks(n, size int64) int64 { return max((n+size-1)/size, 1) }

// wrap makes one frame, or member, of b.
func (e Encoding) wrap(b []byte) []byte {
	r := e.wrapped(io.NopCloser(bytes.NewReader(b)), int64(len(b)))
	out := make([]byte, e.wrappedSize(int64(len(b))))
	_, _ = io.ReadFull(r, out) // nothing in it can fail
	return out
}

// wrapped makes one frame, or member, of content, which must have n bytes, less than 4 GiB. Nothing in it is compressed, so that its
// bytes follow from the content alone. It has one block in memory. Close closes content.
func (e Encoding) wrapped(content io.ReadCloser, n int64) io.ReadCloser {
	w := &wrapper{encoding: e, ReadCloser: content, left: n, size: uint32(n)}
	switch e {
	case Zstd:
		// A size of 4 bytes, Content_Checksum_flag; a window of 128 KiB.
		w.out = binary.LittleEndian.AppendUint32([]byte{0x28, 0xb5, 0x2f, 0xfd, 2<<6 | 1<<2, 7 << 3}, w.size)
		w.sum = xxhash.New()
	case Gzip:
		w.out = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255} // deflate, no time, unknown operating system
		w.sum = crc32.NewIEEE()
	default:
		return content
	}
	return w
}

// wrapper gives a frame, or member, in blocks that are not compressed.
type wrapper struct {
	io.ReadCloser
	encoding Encoding
	sum      hash.Hash
	size     uint32
	left     int64 // of the content
	last     bool  // the last block has been made
	block    []byte
	out      []byte // that has been made and not been read
	err      error
}

func (w *wrapper) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(w.out) == 0 {
		if w.err == nil {
			w.err = w.next()
		}
		if w.err != nil && len(w.out) == 0 {
			return 0, w.err
		}
	}
	n := copy(p, w.out)
	w.out = w.out[n:]
	return n, nil
}

// next makes a block, or the end. The error is io.EOF when that has been made.
func (w *wrapper) next() error {
	if w.last {
		// It is complete only when the content is.
		if _, err := io.ReadFull(w.ReadCloser, make([]byte, 1)); err == nil {
			return ErrSize
		} else if err != io.EOF {
			return err
		}
		w.out = w.end()
		return io.EOF
	}
	limit, header := zstdBlock, 3
	if w.encoding == Gzip {
		limit, header = gzipBlock, 5
	}
	n := int(min(w.left, int64(limit)))
	if w.block == nil {
		w.block = make([]byte, header+n)
	}
	content := w.block[header : header+n]
	if _, err := io.ReadFull(w.ReadCloser, content); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = ErrSize
		}
		return err
	}
	w.left -= int64(n)
	w.last = w.left == 0
	w.sum.Write(content)
	w.head(w.block, n)
	w.out = w.block[:header+n]
	return nil
}

// head writes the header of a block of n bytes to b.
func (w *wrapper) head(b []byte, n int) {
	last := byte(0)
	if w.last {
		last = 1 // Last_Block, BFINAL
	}
	if w.encoding == Zstd {
		b[0], b[1], b[2] = byte(n)<<3|last, byte(n>>5), byte(n>>13) // Raw_Block
		return
	}
	b[0] = last // not compressed
	binary.LittleEndian.PutUint16(b[1:], uint16(n))
	binary.LittleEndian.PutUint16(b[3:], ^uint16(n))
}

// end is what follows the last block.
func (w *wrapper) end() []byte {
	switch sum := w.sum.(type) {
	case *xxhash.Digest:
		return binary.LittleEndian.AppendUint32(nil, uint32(sum.Sum64()))
	case hash.Hash32:
		return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, sum.Sum32()), w.size)
	}
	return nil
}
