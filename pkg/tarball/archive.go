// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package tarball

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"time"
)

// blockSize is the unit of a tar archive (POSIX.1-1988).
const blockSize = 512

// trailerSize is what ends an archive: two blocks of zeros.
const trailerSize = 2 * blockSize

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
}

// Archive is a tar archive that has been laid out and not been read yet. It is immutable. Of each file it keeps what it was given, and
// makes the header when a reader comes to it.
type Archive struct {
	files []File
	size  int64
}

// segment is a piece of an archive with a known length: bytes that are in memory, or the content of a file.
type segment struct {
	name string
	size int64
	open func(ctx context.Context) (io.ReadCloser, error)
}

// New lays out an archive with the files in the given order, all with mode 0600, in GNU format: it has room for any
// size and any name, and GNU tar, bsdtar, busybox and Python read it. It keeps files, which must not be changed any more.
func New(files []File) (*Archive, error) {
	a := &Archive{files: files, size: trailerSize}
	for _, f := range files {
		header, err := headerOf(f)
		if err != nil {
			return nil, fmt.Errorf("lay out %q: %w", f.Name, err)
		}
		a.size += int64(len(header)) + f.Size + padding(f.Size)
	}
	return a, nil
}

// Size is the length of the archive in bytes.
func (a *Archive) Size() int64 { return a.size }

// segments of a file.
func (f File) segments() ([]segment, error) {
	header, err := headerOf(f)
	if err != nil {
		return nil, fmt.Errorf("lay out %q: %w", f.Name, err) // New has refused it
	}
	all := []segment{inMemory("header of "+f.Name, header), {name: f.Name, size: f.Size, open: f.Open}}
	if rest := padding(f.Size); rest != 0 {
		all = append(all, inMemory("padding of "+f.Name, make([]byte, rest)))
	}
	return all, nil
}

// padding is what follows a content of the size.
func padding(size int64) int64 { return (blockSize - size%blockSize) % blockSize }

func inMemory(name string, b []byte) segment {
	return segment{name: name, size: int64(len(b)), open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b)), nil
	}}
}

func headerOf(f File) ([]byte, error) {
	var b bytes.Buffer
	err := tar.NewWriter(&b).WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg,
		Name:     f.Name,
		Size:     f.Size,
		Mode:     0o600,
		ModTime:  time.Unix(max(f.ModTime.Unix(), 0), 0),
		Format:   tar.FormatGNU,
	})
	return b.Bytes(), err
}
