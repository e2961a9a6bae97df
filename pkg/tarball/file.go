// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package tarball

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"time"
)

// maxSmall is up to which size, in bytes, a file may be read from its start to have a range of it, and be in a compressed archive
// without being compressed. The files of the context of a dump are at most as large.
const maxSmall = 16 << 20

// File is a file of an archive.
type File struct {
	// Name is the path in the archive, relative, with "/" between components.
	Name string
	// Size is the length of the content in bytes.
	Size int64
	// ModTime is kept to the second; times before 1970 become 1970.
	ModTime time.Time
	// Open opens the content. It is called at most once for each reader of the archive, when the reader comes to it. The archive closes
	// what it returns. The content must be exactly Size bytes; reading is done only when it has returned io.EOF, so a
	// content that is verified as it is read can still refuse itself.
	Open func(ctx context.Context) (io.ReadCloser, error)

	// OpenRange opens length bytes of the content from offset on, both within Size, under the same conditions as Open.
	// It may be nil: then an archive in which the file is larger than 16 MiB is not Seekable, unless Stored is used.
	OpenRange func(ctx context.Context, offset, length int64) (io.ReadCloser, error)
	// ID tells this content from any other, as a checksum does. Where it is empty, the archive has no ETag.
	ID string
	// Stored is the content compressed, or nil. An archive of the same encoding is spliced from it.
	Stored *Stored
}

// Stored is a content that is there compressed.
type Stored struct {
	// Encoding must not be Plain. The bytes must be complete frames or members that together decompress to the content.
	Encoding Encoding
	// Size is the number of bytes.
	Size int64
	// OpenRange opens length of the bytes from offset on, both within Size, under the same conditions as File.Open.
	OpenRange func(ctx context.Context, offset, length int64) (io.ReadCloser, error)
	// ID tells these bytes from any others, also from another compression of the same content. See File.ID.
	ID string
}

// Bytes is a file whose content is in memory. It is at most 16 MiB where it shall go into spliced archives.
func Bytes(name string, modTime time.Time, content []byte) File {
	sum := sha256.Sum256(content)
	open := ranged(content)
	return File{
		Name: name, Size: int64(len(content)), ModTime: modTime,
		Open:      func(ctx context.Context) (io.ReadCloser, error) { return open(ctx, 0, int64(len(content))) },
		OpenRange: open,
		ID:        "sha256:" + hex.EncodeToString(sum[:]),
	}
}

// plain is the content as a segment.
func (f File) plain() segment {
	s := segment{name: f.Name, size: f.Size, id: f.ID, open: f.OpenRange, whole: f.Open}
	if s.whole == nil && s.open != nil {
		s.whole = func(ctx context.Context) (io.ReadCloser, error) { return f.OpenRange(ctx, 0, f.Size) }
	}
	if s.open == nil && f.Size <= maxSmall {
		s.open = func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
			return within(f.checked(ctx), f.Size, offset, length)
		}
	}
	return s
}

// wrapped is the content of a small file as a segment, in one frame or member of its own. Its length is known
// before its content is.
func (f File) wrapped(e Encoding) segment {
	size := e.wrappedSize(f.Size)
	open := func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		return within(e.wrapped(f.checked(ctx), f.Size), size, offset, length)
	}
	return segment{name: f.Name, size: size, id: f.ID, open: open}
}

// checked gives the whole content, or fails where it has not Size bytes.
func (f File) checked(ctx context.Context) io.ReadCloser {
	return &reader{ctx: ctx, rest: []part{{name: f.Name, size: f.Size, open: f.plain().whole}}}
}

// within gives length bytes from offset on of r, which has size bytes. It reads r to its end where that is among them.
func within(r io.ReadCloser, size, offset, length int64) (io.ReadCloser, error) {
	if _, err := io.CopyN(io.Discard, r, offset); err != nil {
		r.Close()
		return nil, err
	}
	if offset+length == size {
		return r, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(r, length), r}, nil
}

// check refuses what cannot be, of what the header does not.
func (f File) check() error {
	switch {
	case f.Size < 0:
		return fmt.Errorf("size %d", f.Size)
	case f.Stored != nil && (f.Stored.Encoding == Plain || f.Stored.Size < 0):
		return fmt.Errorf("stored content of encoding %d, %d bytes", f.Stored.Encoding, f.Stored.Size)
	}
	return nil
}

// stored is the stored content as a segment.
func (f File) stored() segment {
	return segment{name: f.Name, size: f.Stored.Size, id: f.Stored.ID, open: f.Stored.OpenRange}
}
