// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package dumpdir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/upload"
)

// File is a plain file in the watched directory, open for reading, together with the directory it was found in. It is
// used by one goroutine at a time.
type File struct {
	root   *Root
	path   string
	parent int
	base   string
	fd     int
	stat   unix.Stat_t
	pos    int64
}

// Close gives up the file.
func (f *File) Close() error {
	return errors.Join(unix.Close(f.fd), unix.Close(f.parent))
}

// Read reads on from where it was. It yields what the file had when it was opened and not more.
func (f *File) Read(p []byte) (int, error) {
	if f.pos >= f.stat.Size {
		return 0, io.EOF
	}
	n, err := f.ReadAt(p[:min(int64(len(p)), f.stat.Size-f.pos)], f.pos)
	f.pos += int64(n)
	if err == io.EOF {
		err = upload.ErrChanged // cut off meanwhile
	}
	return n, err
}

// ReadAt reads with pread(2), never by a mapping: a file that is cut off under a mapping kills the reader.
func (f *File) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		m, err := unix.Pread(f.fd, p[n:], off+int64(n))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return n, &fs.PathError{Op: "read", Path: f.path, Err: err}
		case m == 0:
			return n, io.EOF
		}
		n += m
	}
	return n, nil
}

// state is what tells a file that was changed. Change times cannot be set by anybody who is not the kernel.
type state struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

func stateOf(st *unix.Stat_t) state {
	return state{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}
}

func (s state) modified() time.Time { return time.Unix(s.mtime.Unix()) }
func (s state) changed() time.Time  { return time.Unix(s.ctime.Unix()) }

// Unchanged fails with upload.ErrChanged where the file is not what it was when it was opened.
func (f *File) Unchanged() error {
	var now unix.Stat_t
	if err := unix.Fstat(f.fd, &now); err != nil {
		return &fs.PathError{Op: "stat", Path: f.path, Err: err}
	}
	if stateOf(&now) != stateOf(&f.stat) || now.Nlink != 1 {
		return upload.ErrChanged
	}
	return nil
}

// Remove removes the file if it is unchanged and the name is still its own.
func (f *File) Remove() error {
	if err := f.stillNamed(); err != nil {
		return err
	}
	if err := unix.Unlinkat(f.parent, f.base, 0); err != nil {
		return &fs.PathError{Op: "remove", Path: f.path, Err: err}
	}
	return nil
}

// stillNamed fails with upload.ErrChanged where the file was changed, or where its name is now another's.
func (f *File) stillNamed() error {
	var now unix.Stat_t
	switch err := unix.Fstatat(f.parent, f.base, &now, unix.AT_SYMLINK_NOFOLLOW); {
	case err == unix.ENOENT:
		return upload.ErrChanged
	case err != nil:
		return &fs.PathError{Op: "stat", Path: f.path, Err: err}
	case now.Dev != f.stat.Dev || now.Ino != f.stat.Ino:
		return upload.ErrChanged
	}
	return f.Unchanged()
}

// writer tells whether somebody has a file open for writing.
type writer int

const (
	writerNone writer = iota
	writerOpen
	writerUnknown
)

// hasWriter asks for a read lease and gives it back at once: the kernel refuses one (EAGAIN) while the file is open for writing
// anywhere, by a descriptor or a mapping; see F_SETLEASE in fcntl(2). This stands in for the close-write
// event, which fsnotify v1.10 cannot be asked for. It needs to own the file or CAP_LEASE, and a file system
// with leases. Who opens the file for writing in the microseconds of the lease waits for them; the signal
// that this sends (SIGIO) is one that a Go program ignores.
func (f *File) hasWriter() writer {
	w := leased(f.fd)
	if w == writerOpen && !f.root.leases {
		return writerUnknown
	}
	return w
}

func leased(fd int) writer {
	switch _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK); err {
	case nil:
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
		return writerNone
	case unix.EAGAIN:
		return writerOpen
	}
	return writerUnknown
}

func (f *File) String() string { return fmt.Sprintf("%q", f.path) }
