// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package tarball

import (
	"errors"
	"fmt"
)

// ErrNotSpliceable is the kind of error of Splice where a file can only get into the archive by compressing it.
var ErrNotSpliceable = errors.New("not to be spliced")

// Splice lays out an archive like New's, but compressed. Files that are stored in its encoding go into it as they
// are, all others uncompressed within a frame or member of their own, which they must be small enough for: at most 16 MiB.
//
// Readers have to know that frames and members may follow each other. GNU tar, bsdtar, busybox, zstd, gzip, Go and Python do;
// what does not is Python's tarfile where it reads gzip from a pipe (mode "r|gz"): it ends, without an error, behind the first
// member.
func Splice(files []File, e Encoding) (*Archive, error) {
	for _, f := range files {
		if !spliceable(f, e) {
			return nil, fmt.Errorf("%w: %s is not stored in the encoding of the archive", ErrNotSpliceable, f.Name)
		}
	}
	return layOut(&Archive{files: files, encoding: e})
}

// Spliceable tells whether Splice can make an archive of the files, whatever else may be wrong with them.
func Spliceable(files []File, e Encoding) bool {
	for _, f := range files {
		if !spliceable(f, e) {
			return false
		}
	}
	return true
}

func spliceable(f File, e Encoding) bool {
	return e == Plain || f.storedAs(e) || f.Size <= maxSmall
}

func (f File) storedAs(e Encoding) bool { return f.Stored != nil && f.Stored.Encoding == e }
