// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"bytes"
	"encoding/binary"
	"io"
)

// pageSize is the unit in which zeros become holes. Cores are laid out in pages, and so are the blocks of file systems.
const pageSize = 4096

// coreFile is what is needed of the file of a core.
type coreFile interface {
	io.WriterAt
	Truncate(int64) error
	Close() error
}

var zeroPage [pageSize]byte

// sparse writes a file from front to back and leaves out pages of zeros. Its pages are those of the file.
type sparse struct {
	file coreFile
	// size is the length so far, with holes; written are the bytes without.
	size, written int64
	odd           bool // the file's own length is another: it ends in a hole, or in a piece that was not written whole
}

// write appends b. After an error, size is what is certain to be there.
func (s *sparse) write(b []byte) error {
	for len(b) > 0 {
		n := s.run(b, false)
		if n > 0 {
			m, err := s.file.WriteAt(b[:n], s.size)
			s.size += int64(m)
			s.written += int64(m)
			s.odd = err != nil // package os does not count what a failed WriteAt has written
			if err != nil {
				return err
			}
			b = b[n:]
		}
		if n = s.run(b, true); n > 0 {
			s.size += int64(n)
			s.odd = true
			b = b[n:]
		}
	}
	return nil
}

// run is the length of the run of pages at the beginning of b that are zeros, or are not. Pieces of a page are written as they are.
func (s *sparse) run(b []byte, zeros bool) int {
	n := 0
	for n < len(b) {
		k := int(min(pageSize-(s.size+int64(n))%pageSize, int64(len(b)-n)))
		if (k == pageSize && isZero(b[n:n+pageSize])) != zeros {
			break
		}
		n += k
	}
	return n
}

// isZero looks at a word first: most pages are told by it.
func isZero(page []byte) bool {
	return binary.NativeEndian.Uint64(page) == 0 && bytes.Equal(page, zeroPage[:])
}

// end gives the file its length.
func (s *sparse) end() error {
	if !s.odd {
		return nil
	}
	return s.file.Truncate(s.size)
}
