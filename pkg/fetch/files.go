// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// openPrivate opens a file of a directory for reading and writing, and makes it where it does not exist, for its owner alone. A file that is there must be a regular one of
// the caller that nobody else may write or read: in a directory that others can write to, it could be anything.
func openPrivate(dir *os.Root, name string) (*os.File, error) {
	f, err := dir.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	before, err := dir.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() || !private(before) {
		return nil, fmt.Errorf("%s is not a file that only you can read: remove it, or use another directory", name)
	}
	if f, err = dir.OpenFile(name, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	after, err := f.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = fmt.Errorf("%s has just become another file", name)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// publish gives a finished file its name, which must be free. After a kill the file has its old name, the new one, or both.
func publish(dir *os.Root, from, to string) error {
	if err := dir.Link(from, to); err == nil || errors.Is(err, fs.ErrExist) {
		if err != nil {
			return fmt.Errorf("%w: %s", ErrExists, to)
		}
		return dir.Remove(from)
	}
	// A file system without links.
	f, err := dir.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", ErrExists, to)
	}
	if err != nil {
		return err
	}
	_ = f.Close()
	return dir.Rename(from, to)
}

// room fails with ErrNoRoom unless the file system of the open file has at least need bytes for the user.
func room(f *os.File, need int64) error {
	free, ok := freeBytes(f)
	if !ok || free >= need {
		return nil
	}
	return fmt.Errorf("%w: about %s are needed, %s are free", ErrNoRoom, mib(need), mib(free))
}

// local says what went wrong with a local file.
func local(err error) error {
	if err != nil && noSpace(err) && !errors.Is(err, ErrNoRoom) {
		return fmt.Errorf("%w: %w", ErrNoRoom, err)
	}
	return err
}

func mib(n int64) string {
	if n < 10<<20 {
		return fmt.Sprintf("%d KiB", (n+1023)>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// page is the unit of holes.
const page = 4096

var zeros [page]byte

// sparse writes a file from an offset on, of at most limit bytes in all, and leaves holes where whole pages are zero. The file must have had nothing behind the offset.
// finish gives it its length.
type sparse struct {
	f      *os.File
	offset int64
	limit  int64
	wrote  int64 // bytes since the last writeOut
}

// writeOutEvery is how many bytes the kernel may keep before it begins to write them to the disk.
const writeOutEvery = 16 << 20

func (s *sparse) Write(p []byte) (int, error) {
	if int64(len(p)) > s.limit-s.offset {
		return 0, fmt.Errorf("%w: it has more than the %d bytes that the record says", ErrWrong, s.limit)
	}
	for i := 0; i < len(p); {
		j, zero := run(p[i:], s.offset+int64(i))
		if !zero {
			if _, err := s.f.WriteAt(p[i:i+j], s.offset+int64(i)); err != nil {
				return i, &localError{err}
			}
		}
		i += j
	}
	s.offset += int64(len(p))
	if s.wrote += int64(len(p)); s.wrote >= writeOutEvery {
		writeOut(s.f, s.offset-s.wrote, s.wrote)
		s.wrote = 0
	}
	return len(p), nil
}

func (s *sparse) finish() error {
	return s.f.Truncate(s.offset)
}

// run gives the length of the run at the start of p, whose bytes are at offset of the file, that is all pages of zeros, or none at all.
func run(p []byte, offset int64) (n int, zero bool) {
	for n < len(p) {
		size := min(page-int((offset+int64(n))%page), len(p)-n)
		z := string(p[n:n+size]) == string(zeros[:size])
		if n > 0 && z != zero {
			return n, zero
		}
		zero = z
		n += size
	}
	return n, zero
}

// limited fails with ErrWrong where more than n bytes are written to it.
type limited struct {
	w    io.Writer
	n    int64
	size int64
}

func limit(w io.Writer, size int64) *limited { return &limited{w, size, size} }

func (l *limited) Write(p []byte) (int, error) {
	if int64(len(p)) > l.n {
		return 0, fmt.Errorf("%w: it has more than the %d bytes that the record says", ErrWrong, l.size)
	}
	n, err := l.w.Write(p)
	l.n -= int64(n)
	return n, err
}
