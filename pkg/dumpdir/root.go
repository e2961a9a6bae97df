// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package dumpdir watches a directory for finished core files. Everybody who crashes can write there, so everything in
// it is hostile: names, links, special files, files that change while they are read. Nothing is opened but
// below a held descriptor of the directory, without following any link, and nothing but plain files; nothing is
// removed or moved but what has been looked at.
package dumpdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// resolve is how every name below the directory is looked up: no way out, no link, no other file system. See openat2(2).
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// Root is the watched directory, held open. Names given to it are relative, cleaned and use "/". Safe for concurrent use.
type Root struct {
	path  string
	dir   *os.File
	aside *os.File
	// leases is true where a refused lease means that there is a writer. Some file systems refuse always (NFS without a delegation).
	leases bool
}

// OpenRoot opens the directory, which must exist, and makes what it needs in it. The caller closes the root.
func OpenRoot(name string) (*Root, error) {
	dir, err := os.OpenFile(name, unix.O_DIRECTORY|os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("open the dump directory: %w", err)
	}
	r := &Root{path: filepath.Clean(name), dir: dir}
	if r.aside, err = r.openAside(); err != nil {
		dir.Close()
		return nil, err
	}
	if r.leases, err = r.tryLease(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Close gives up the directory, and its lock.
func (r *Root) Close() error {
	return errors.Join(r.aside.Close(), r.dir.Close())
}

// openat opens name below the directory parent.
func openat(parent int, name string, flags uint64) (int, error) {
	for {
		fd, err := unix.Openat2(parent, name, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve})
		if err == unix.EINTR {
			continue
		}
		if err == unix.ENOSYS {
			err = errors.New("this kernel has no openat2 (Linux 5.6): the directory cannot be watched safely")
		}
		return fd, err
	}
}

// openDir opens the directory name to be read. The caller closes it.
func (r *Root) openDir(name string) (*os.File, error) {
	fd, err := openat(int(r.dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), descriptor(fd)), nil
}

// descriptor is a name for an open file, under which package os can look up what is in a directory without the directory's own name.
func descriptor(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// isDir tells whether name is a directory.
func (r *Root) isDir(name string) bool {
	fd, err := openat(int(r.dir.Fd()), name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// Refusal is the error of Open for what is not a plain file that belongs to nobody else. It stays where it is.
type Refusal struct {
	Path   string
	Reason RefusalReason
}

func (e *Refusal) Error() string { return fmt.Sprintf("%q is refused: %s", e.Path, e.Reason) }

// RefusalReason is why a file is refused. It is the value of a metric's label.
type RefusalReason string

// The reasons.
const (
	RefusedSymlink   RefusalReason = "symlink"
	RefusedHardLink  RefusalReason = "hard-link"
	RefusedFIFO      RefusalReason = "fifo"
	RefusedSocket    RefusalReason = "socket"
	RefusedDevice    RefusalReason = "device"
	RefusedDirectory RefusalReason = "directory"
	RefusedMount     RefusalReason = "other-file-system"
)

var refusalReasons = []RefusalReason{
	ignored, RefusedSymlink, RefusedHardLink, RefusedFIFO, RefusedSocket, RefusedDevice, RefusedDirectory, RefusedMount,
}

// Open opens a plain file with exactly one name for reading. Anything else gives a *Refusal and is not touched: no
// link is followed, no driver's open runs, no FIFO is waited for. It fails with fs.ErrNotExist where there is nothing.
// The caller closes the file.
func (r *Root) Open(name string) (*File, error) {
	parent, err := openat(int(r.dir.Fd()), path.Dir(name), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, openError(name, err)
	}
	f, err := openIn(parent, name)
	if err != nil {
		unix.Close(parent)
		return nil, err
	}
	f.root = r
	return f, nil
}

// openIn opens the last component of name in its directory parent, which the file takes over.
func openIn(parent int, name string) (*File, error) {
	f := &File{path: name, parent: parent, base: path.Base(name)}
	// O_PATH gets hold of the inode, whatever it is, without opening it.
	p, err := openat(parent, f.base, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return nil, openError(name, err)
	}
	defer unix.Close(p)
	if err := unix.Fstat(p, &f.stat); err != nil {
		return nil, openError(name, err)
	}
	if reason := refuse(&f.stat); reason != "" {
		return nil, &Refusal{name, reason}
	}
	// The same inode again, to be read: no name is looked up a second time. O_NONBLOCK, for somebody may hold a lease on it.
	fd, err := unix.Open(descriptor(p), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, openError(name, err)
	}
	f.fd = fd
	return f, nil
}

func refuse(st *unix.Stat_t) RefusalReason {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if st.Nlink != 1 {
			return RefusedHardLink // it may be another tenant's file
		}
		return ""
	case unix.S_IFLNK:
		return RefusedSymlink
	case unix.S_IFIFO:
		return RefusedFIFO
	case unix.S_IFSOCK:
		return RefusedSocket
	case unix.S_IFDIR:
		return RefusedDirectory
	}
	return RefusedDevice
}

func openError(name string, err error) error {
	switch err {
	case unix.ELOOP: // a directory on the way is a link
		return &Refusal{name, RefusedSymlink}
	case unix.EXDEV:
		return &Refusal{name, RefusedMount}
	case unix.ENOTDIR: // replaced meanwhile
		err = unix.ENOENT
	}
	return &fs.PathError{Op: "open", Path: name, Err: err}
}
