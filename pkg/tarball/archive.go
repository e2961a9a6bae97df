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

// Archive is a tar archive that has been laid out and not been read yet: a sequence of segments, each with a known
// length. It is immutable.
type Archive struct {
	segments []segment
	size     int64
}

// segment is a piece of an archive: bytes that are in memory, or the content of a file.
type segment struct {
	name string
	size int64
	open func(ctx context.Context) (io.ReadCloser, error)
}

// New lays out an archive with the files in the given order, all with mode 0600, in GNU format: it has room for any
// size and any name, and GNU tar, bsdtar, busybox and Python read it.
func New(files []File) (*Archive, error) {
	a := &Archive{}
	for _, f := range files {
		header, err := headerOf(f)
		if err != nil {
			return nil, fmt.Errorf("lay out %q: %w", f.Name, err)
		}
		a.add(inMemory("header of "+f.Name, header))
		a.add(segment{name: f.Name, size: f.Size, open: f.Open})
		if rest := f.Size % blockSize; rest != 0 {
			a.add(inMemory("padding of "+f.Name, make([]byte, blockSize-rest)))
		}
	}
	a.add(inMemory("trailer", make([]byte, trailerSize)))
	return a, nil
}

// Size is the length of the archive in bytes.
func (a *Archive) Size() int64 { return a.size }

func (a *Archive) add(s segment) {
	a.segments = append(a.segments, s)
	a.size += s.size
}

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
