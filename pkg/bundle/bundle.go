// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package bundle is what is known of a crash beside the core: status of pod and container, facts from /proc, the last lines of the log. It is a
// tar.zst of a few small files, in the bucket beside the core, and its files are in the archives that are served. The package is pure, and its
// memory is bounded whatever bytes it is given.
package bundle

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

const (
	// MaxFiles bounds the number of files of a bundle.
	MaxFiles = 64
	// MaxSize bounds the sum of their lengths in bytes.
	MaxSize = 16 << 20
)

var (
	// ErrInvalid is returned for files that are no bundle: a name that is not allowed or there twice, more than the bounds allow.
	ErrInvalid = errors.New("no valid context bundle")
	// ErrCorrupt is returned for bytes that are no bundle.
	ErrCorrupt = errors.New("corrupt context bundle")
)

// File is a file of a bundle.
type File struct {
	// Name is relative, of components that match [a-z0-9][a-zA-Z0-9._-]* and have at most 100 bytes, at most two: "pod.json", "proc/maps".
	Name string
	Data []byte
}

// Entry is a file of a bundle without its data.
type Entry struct {
	Name string
	// Size is its length in bytes.
	Size int64
}

// name has neither an empty component nor one that begins with a dot. A tar header of the format ustar has room for it.
var name = regexp.MustCompile(`^[a-z0-9][a-zA-Z0-9._-]{0,99}(/[a-z0-9][a-zA-Z0-9._-]{0,99})?$`)

// Check refuses, with ErrInvalid, what cannot be the files of one bundle: names that do not match or that are not different
// files of one directory, too many files, too many bytes.
func Check(entries []Entry) error {
	var s set
	for _, e := range entries {
		if err := s.add(e); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return nil
}

// set is what a bundle has so far.
type set struct {
	n     int
	size  int64
	kinds map[string]bool // by path: true for a file, false for a directory
}

func (s *set) add(e Entry) error {
	if !name.MatchString(e.Name) {
		return fmt.Errorf("name %.80q: must be one or two components of %s", e.Name, "[a-z0-9][a-zA-Z0-9._-]*, each of at most 100 bytes")
	}
	dir, _, nested := strings.Cut(e.Name, "/")
	if _, there := s.kinds[e.Name]; there || nested && s.kinds[dir] {
		return fmt.Errorf("name %.80q: there is another file in its place", e.Name)
	}
	if s.n == MaxFiles {
		return fmt.Errorf("more than %d files", MaxFiles)
	}
	if e.Size < 0 || e.Size > MaxSize-s.size {
		return fmt.Errorf("%.80q has %d bytes: all files together must have at most %d", e.Name, e.Size, MaxSize)
	}
	if s.kinds == nil {
		s.kinds = map[string]bool{}
	}
	if nested {
		s.kinds[dir] = false
	}
	s.kinds[e.Name] = true
	s.n, s.size = s.n+1, s.size+e.Size
	return nil
}
