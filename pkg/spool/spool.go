// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// The directories of a spool. Entries in gone are being removed: a rename takes them out of ready in one step.
const (
	incomingDir = "incoming"
	readyDir    = "ready"
	asideDir    = "aside"
	goneDir     = "gone"
	slotsDir    = "slots"
)

// SocketFile is the name of the node handler's socket in the spool, see package notify.
const SocketFile = "socket"

// ErrUnsafe is the kind of Open's error for a directory that others than its owner can use: they could forge dumps.
var ErrUnsafe = errors.New("not a directory of this user alone")

// Spool is a spool directory, held open. Any number of processes may have it open; methods are safe for concurrent use.
type Spool struct {
	path string
	dir  *os.File
	root *os.Root
}

// Open opens the spool in the directory at path and makes what is missing of it, with mode 0700; the parent of path must exist. A
// directory that is a link, is another user's, or grants anything to group or others is refused (ErrUnsafe). The caller closes the spool.
func Open(path string) (*Spool, error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the spool: %w", err)
	}
	fd, err := openDirectory(unix.AT_FDCWD, path)
	if err != nil {
		return nil, fmt.Errorf("open the spool %s: %w", path, err)
	}
	s := &Spool{path: filepath.Clean(path), dir: os.NewFile(uintptr(fd), path)}
	if s.root, err = os.OpenRoot(descriptor(s.dir)); err != nil {
		s.dir.Close()
		return nil, fmt.Errorf("open the spool %s: %w", path, err)
	}
	for _, name := range []string{incomingDir, readyDir, asideDir, goneDir, slotsDir} {
		if err := s.makeDirectory(name); err != nil {
			s.Close()
			return nil, fmt.Errorf("open the spool %s: %w", path, err)
		}
	}
	return s, nil
}

func (s *Spool) makeDirectory(name string) error {
	if err := s.root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	fd, err := openDirectory(int(s.dir.Fd()), name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return unix.Close(fd)
}

// openDirectory opens a directory that is this user's alone.
func openDirectory(parent int, name string) (int, error) {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch err {
	case nil:
	case unix.ELOOP, unix.ENOTDIR:
		return -1, fmt.Errorf("%w: it is a link or a file", ErrUnsafe)
	default:
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		unix.Close(fd)
		return -1, fmt.Errorf("%w: owner %d, mode %04o: must be owner %d, mode 0700", ErrUnsafe, st.Uid, st.Mode&0o7777, os.Geteuid())
	}
	return fd, nil
}

// descriptor is a name for an open directory under which package os finds what is in it, without the directory's own name.
func descriptor(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// Close gives up the spool. Entries that were opened stay open.
func (s *Spool) Close() error { return errors.Join(s.root.Close(), s.dir.Close()) }

// Path is the path that the spool was opened at.
func (s *Spool) Path() string { return s.path }

// ReadyPath is the directory in which finished entries appear by rename, to be watched.
func (s *Spool) ReadyPath() string { return filepath.Join(s.path, readyDir) }

// SocketPath is a path of the socket that is short enough for sockaddr_un whatever the spool's own path; it is valid in
// this process, while the spool is open.
func (s *Spool) SocketPath() string { return descriptor(s.dir) + "/" + SocketFile }

// sync makes renames in the named directories of the spool permanent.
func (s *Spool) sync(names ...string) error {
	for _, name := range names {
		d, err := s.root.Open(name)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Slot takes one of n slots, of which every capture on the node holds one; they are freed by the kernel when their holder ends, however it ends.
// It returns false where all are taken. The caller calls release.
func (s *Spool) Slot(n int) (release func(), ok bool, err error) {
	for i := range n {
		f, err := s.root.OpenFile(slotsDir+"/"+strconv.Itoa(i), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, false, fmt.Errorf("take a slot: %w", err)
		}
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
		case nil:
			return func() { f.Close() }, true, nil
		case unix.EWOULDBLOCK:
			f.Close()
		default:
			f.Close()
			return nil, false, fmt.Errorf("take a slot: %w", err)
		}
	}
	return nil, false, nil
}
