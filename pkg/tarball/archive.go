// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package tarball

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"
)

// blockSize is the unit of a tar archive (POSIX.1-1988).
const blockSize = 512

// trailerSize is what ends an archive: two blocks of zeros.
const trailerSize = 2 * blockSize

// layoutVersion goes into ETags. It changes when the same contents shall get other bytes around them.
const layoutVersion = "coredump/tarball/1"

// Archive is what is to be downloaded, laid out and not read yet. It is immutable, and safe for concurrent use as far as
// its files are. It keeps what it was given of each file, and 8 bytes; headers are made when a reader comes to them.
//
// It is a sequence of items. Item i is what is before the content of file i, and that content; the last is what ends the archive.
type Archive struct {
	files    []File
	encoding Encoding
	bare     bool    // no tar: only the content of the file, or what is stored of it
	ends     []int64 // the offset behind each item
	seekable bool
	tag      string
}

// New lays out an archive with the files in the given order, all with mode 0600, in GNU format: it has room for any
// size and any name, and GNU tar, bsdtar, busybox and Python read it. It is not compressed. It keeps files, which must
// not be changed any more.
func New(files []File) (*Archive, error) {
	return layOut(&Archive{files: files})
}

// Single lays out what is only the content of a file, without any tar.
func Single(f File) (*Archive, error) {
	return layOut(&Archive{files: []File{f}, bare: true})
}

// SingleStored lays out what is only the stored content of a file, which must have one.
func SingleStored(f File) (*Archive, error) {
	if f.Stored == nil {
		return nil, fmt.Errorf("lay out %q: nothing is stored", f.Name)
	}
	return layOut(&Archive{files: []File{f}, bare: true, encoding: f.Stored.Encoding})
}

// Size is the length of the archive in bytes.
func (a *Archive) Size() int64 { return a.ends[len(a.ends)-1] }

// Seekable tells whether any range of the archive can be opened.
func (a *Archive) Seekable() bool { return a.seekable }

// ETag is a strong entity tag, quoted as HTTP wants it (RFC 9110, section 8.8.3): archives with the same tag have the same
// bytes. It follows from the layout and the IDs of the contents. It is empty where a content has no ID.
func (a *Archive) ETag() string { return a.tag }

// layOut completes an archive of which the files, the encoding and bare are there.
func layOut(a *Archive) (*Archive, error) {
	for _, f := range a.files {
		if err := f.check(); err != nil {
			return nil, fmt.Errorf("lay out %q: %w", f.Name, err)
		}
	}
	items := len(a.files) + 1
	if a.bare {
		items = 1
	}
	a.ends, a.seekable = make([]int64, 0, items), true
	sum, tagged, end := sha256.New(), true, int64(0)
	fmt.Fprintln(sum, layoutVersion, a.encoding, a.bare)
	for i := range items {
		segments, err := a.item(i)
		if err != nil {
			return nil, err
		}
		for _, s := range segments {
			end += s.size
			a.seekable = a.seekable && s.open != nil
			tagged = s.identify(sum) && tagged
		}
		a.ends = append(a.ends, end)
	}
	if tagged {
		a.tag = `"` + hex.EncodeToString(sum.Sum(nil)[:16]) + `"`
	}
	return a, nil
}

// item makes the segments of an item, at most two.
func (a *Archive) item(i int) ([]segment, error) {
	if a.bare {
		return []segment{a.content(a.files[0])}, nil
	}
	var before []byte
	if i > 0 {
		before = make([]byte, padding(a.files[i-1].Size), 3*blockSize)
	}
	if i == len(a.files) {
		return []segment{inMemory("trailer", a.encoding.wrap(append(before, make([]byte, trailerSize)...)))}, nil
	}
	f := a.files[i]
	header, err := headerOf(f)
	if err != nil {
		return nil, fmt.Errorf("lay out %q: %w", f.Name, err)
	}
	return []segment{inMemory("header of "+f.Name, a.encoding.wrap(append(before, header...))), a.content(f)}, nil
}

// content gives the content of a file as it is in the archive.
func (a *Archive) content(f File) segment {
	switch {
	case a.encoding == Plain:
		return f.plain()
	case f.storedAs(a.encoding):
		return f.stored()
	}
	return f.wrapped(a.encoding)
}

// padding is what follows a content of the size.
func padding(size int64) int64 { return (blockSize - size%blockSize) % blockSize }

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

// first gives the first item that has bytes at offset or behind it. An item that ends there counts: a content of no bytes
// may be the last of it.
func (a *Archive) first(offset int64) int {
	i, _ := slices.BinarySearch(a.ends, offset)
	return i
}

// identify adds a segment to the sum of an archive. It is false where it cannot be told from others.
func (s segment) identify(sum hash.Hash) bool {
	if s.memory != nil {
		fmt.Fprintln(sum, "memory", len(s.memory))
		sum.Write(s.memory)
		return true
	}
	fmt.Fprintln(sum, "content", s.size, len(s.id))
	_, _ = io.WriteString(sum, s.id)
	return s.id != ""
}
