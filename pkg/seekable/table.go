// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package seekable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
)

var (
	// ErrNoTable is the kind of error where a stream has no seek table, or one beyond the bounds of this package (MaxFrames,
	// MaxFrameSize). It may be good zstd all the same, to be read from its start.
	ErrNoTable = errors.New("no seek table")
	// ErrCorrupt is the kind of error where a stream contradicts itself or its table.
	ErrCorrupt = errors.New("corrupt seekable stream")
)

const (
	// MaxFrames is how many frames a table that is read or written may have. In memory it takes 24 bytes a frame.
	MaxFrames = 1 << 20
	// MaxFrameSize bounds the content of a frame and the frame itself, in bytes: both are in memory as a whole.
	MaxFrameSize = 64 << 20

	skippableMagic = 0x184D2A5E // Skippable_Magic_Number
	seekableMagic  = 0x8F92EAB1 // Seekable_Magic_Number
	skippableSize  = 8          // Skippable_Magic_Number and Frame_Size
	footerSize     = 9          // Seek_Table_Footer
	checksumFlag   = 1 << 7     // in Seek_Table_Descriptor
	reservedBits   = 0x7c       // in Seek_Table_Descriptor, must be zero
	shortEntry     = 8
	longEntry      = 12 // with a checksum
)

// Frame is a frame of a stream.
type Frame struct {
	// Offset and StoredSize are where the frame is in the stream, in bytes.
	Offset     int64
	StoredSize int64
	// ContentOffset and Size are where its content is in the content of the stream, in bytes. Size may be 0.
	ContentOffset int64
	Size          int64
	// Checksum is the lower half of the XXH64 of the content, where the table has checksums.
	Checksum uint32
}

// Table is the seek table of a stream. It is immutable once it has been read or its Writer has been closed.
type Table struct {
	entries   []entry // where each frame begins; one more at the end
	checksums bool
}

// entry is the beginning of a frame.
type entry struct {
	offset, content int64
	checksum        uint32
}

// Frames is the number of frames.
func (t *Table) Frames() int { return max(len(t.entries)-1, 0) }

// Size is the length of the content in bytes.
func (t *Table) Size() int64 {
	_, content := t.end()
	return content
}

// StoredSize is the length of the stream in bytes, with its table.
func (t *Table) StoredSize() int64 {
	offset, _ := t.end()
	return offset + tableSize(t.Frames(), t.checksums)
}

// HasChecksums tells whether the frames have checksums.
func (t *Table) HasChecksums() bool { return t.checksums }

// Frame gives frame i, counted from 0.
func (t *Table) Frame(i int) Frame {
	from, to := t.entries[i], t.entries[i+1]
	return Frame{from.offset, to.offset - from.offset, from.content, to.content - from.content, from.checksum}
}

// Range gives the frames, from first on up to but without end, that have the content from offset on, length bytes.
// Both must be within Size. Nothing is in no frame.
func (t *Table) Range(offset, length int64) (first, end int) {
	if length == 0 {
		return 0, 0
	}
	n := t.Frames()
	first = sort.Search(n, func(i int) bool { return t.entries[i+1].content > offset })
	end = sort.Search(n, func(i int) bool { return t.entries[i].content >= offset+length })
	return first, end
}

func (t *Table) end() (offset, content int64) {
	if len(t.entries) == 0 {
		return 0, 0
	}
	last := t.entries[len(t.entries)-1]
	return last.offset, last.content
}

// add puts a frame at the end.
func (t *Table) add(storedSize, size int, checksum uint32) {
	if len(t.entries) == 0 {
		t.entries = append(t.entries, entry{})
	}
	offset, content := t.end()
	t.entries[len(t.entries)-1].checksum = checksum
	t.entries = append(t.entries, entry{offset: offset + int64(storedSize), content: content + int64(size)})
}

// encode gives the skippable frame that has the table.
func (t *Table) encode() []byte {
	n := t.Frames()
	size := tableSize(n, t.checksums)
	b := make([]byte, 0, size)
	b = binary.LittleEndian.AppendUint32(b, skippableMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(size-skippableSize))
	for i := range n {
		f := t.Frame(i)
		b = binary.LittleEndian.AppendUint32(b, uint32(f.StoredSize))
		b = binary.LittleEndian.AppendUint32(b, uint32(f.Size))
		if t.checksums {
			b = binary.LittleEndian.AppendUint32(b, f.Checksum)
		}
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	var descriptor byte
	if t.checksums {
		descriptor = checksumFlag
	}
	b = append(b, descriptor)
	return binary.LittleEndian.AppendUint32(b, seekableMagic)
}

func tableSize(frames int, checksums bool) int64 {
	size := int64(shortEntry)
	if checksums {
		size = longEntry
	}
	return skippableSize + int64(frames)*size + footerSize
}

// footer is the Seek_Table_Footer.
type footer struct {
	frames    int
	checksums bool
}

// parseFooter understands the last bytes of a stream. Errors are of kind ErrNoTable.
func parseFooter(tail []byte) (footer, error) {
	if len(tail) < footerSize {
		return footer{}, fmt.Errorf("%w: the stream is too short for one", ErrNoTable)
	}
	b := tail[len(tail)-footerSize:]
	n, descriptor := binary.LittleEndian.Uint32(b), b[4]
	switch {
	case binary.LittleEndian.Uint32(b[5:]) != seekableMagic:
		return footer{}, fmt.Errorf("%w: the stream does not end with its magic number", ErrNoTable)
	case descriptor&reservedBits != 0:
		return footer{}, fmt.Errorf("%w of a known version: its descriptor is %#x", ErrNoTable, descriptor)
	case n > MaxFrames:
		return footer{}, fmt.Errorf("%w within bounds: it has %d frames, at most %d are allowed", ErrNoTable, n, MaxFrames)
	}
	return footer{int(n), descriptor&checksumFlag != 0}, nil
}

// ParseTable understands the seek table of a stream of storedSize bytes. tail are its last bytes, at least as many as the
// table has. Errors are of kind ErrNoTable or ErrCorrupt.
func ParseTable(tail []byte, storedSize int64) (*Table, error) {
	f, err := parseFooter(tail)
	if err != nil {
		return nil, err
	}
	size := tableSize(f.frames, f.checksums)
	if size > int64(len(tail)) {
		return nil, fmt.Errorf("%w: its table of %d bytes does not fit into it", ErrCorrupt, size)
	}
	b := tail[int64(len(tail))-size:]
	if magic, n := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]); magic != skippableMagic || int64(n) != size-skippableSize {
		return nil, fmt.Errorf("%w: its table is in no skippable frame of %d bytes", ErrCorrupt, size)
	}
	b = b[skippableSize:]
	t := &Table{entries: make([]entry, 0, f.frames+1), checksums: f.checksums}
	for i := range f.frames {
		stored, content, checksum := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), uint32(0)
		b = b[shortEntry:]
		if f.checksums {
			checksum, b = binary.LittleEndian.Uint32(b), b[longEntry-shortEntry:]
		}
		switch {
		case stored > MaxFrameSize || content > MaxFrameSize:
			return nil, fmt.Errorf("%w within bounds: frame %d has %d bytes for %d, at most %d are allowed", ErrNoTable, i, stored, content, MaxFrameSize)
		case stored == 0 && content > 0:
			return nil, fmt.Errorf("%w: its frame %d has %d bytes in none", ErrCorrupt, i, content)
		}
		t.add(int(stored), int(content), checksum)
	}
	if t.StoredSize() != storedSize {
		return nil, fmt.Errorf("%w: its frames and their table are %d bytes, the stream has %d", ErrCorrupt, t.StoredSize(), storedSize)
	}
	return t, nil
}
