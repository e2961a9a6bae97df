// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture/rlimit"
	"example.io/coredump/pkg/capture/thread"
)

// ErrNotWanted is returned where the kernel would have written no file either.
var ErrNotWanted = errors.New("the host's own settings want no core file of this process")

// pageSize is the least RLIMIT_CORE that gives a file (ELF_EXEC_PAGESIZE), and the unit of holes.
const pageSize = 4096

// File is a dump for a pattern of kind ToFile: written as the crashing process itself would have, with its rights, its root and working directory, so that it
// can make nothing of ours write where it could not. What it lacks beside that of the kernel: a umask that leaves less than 0600 is not honoured.
type File struct {
	// PID is the process, in the PID namespace of our /proc. It must be held (core_pipe_limit, COREDUMP_WAIT), and Verify must tell, after all
	// that is read in /proc/PID and before anything is made of it, whether it is still that process.
	PID    int
	Verify func() error
	// Path is what the pattern gives; see Pattern.Path.
	Path string
	// Dumpable is %d: with 2 the file is root's, in the host's root directory, and only at an absolute path.
	Dumpable int
	// Limit is RLIMIT_CORE (%c) in bytes, math.MaxUint64 for none.
	Limit uint64
	// HostRoot is the host's root directory: "/", or "/proc/1/root" from a container.
	HostRoot string
}

// Write writes the core that stream yields, and gives the length of the file. Where the limit is reached the file ends there, without an error, and the rest of
// the stream is not read. Pages of zeros become holes. ErrNotWanted: there is to be no file.
//
// All is done on an operating system thread with the rights of the process (its fsuid, fsgid, groups, effective capabilities): unlike with setresuid(2) the
// process cannot signal or trace it.
func (f File) Write(stream io.Reader) (int64, error) {
	if f.Path == "" || f.Limit < pageSize || f.Dumpable == 0 || f.Dumpable == 2 && !filepath.IsAbs(f.Path) {
		return 0, ErrNotWanted
	}
	var n int64
	var err error
	thread.Run(func() { n, err = f.write(stream) })
	return n, err
}

func (f File) write(stream io.Reader) (int64, error) {
	from, err := openPlace(f.PID, f.Dumpable, f.HostRoot)
	if err != nil {
		return 0, fmt.Errorf("look where the core file belongs: %w", err)
	}
	defer from.close()
	if err := f.Verify(); err != nil {
		return 0, err
	}
	if err := from.enter(); err != nil {
		return 0, fmt.Errorf("take the place of the crashed process: %w", err)
	}
	out, err := create(f.Path, f.Dumpable, from.rights.fsuid)
	if err != nil {
		return 0, err
	}
	n, err := copySparse(out, stream, f.Limit, from.fileSize)
	if err = errors.Join(err, out.Close()); err != nil {
		return n, fmt.Errorf("write the core file: %w", err)
	}
	return n, nil
}

// create makes the file at path as do_coredump does: an old name is removed, whatever it is, and never opened.
func create(path string, dumpable int, owner int) (*os.File, error) {
	if dumpable != 2 {
		// Errors show when it is opened.
		_ = unix.Unlink(path)
	}
	fd, err := openat2(path, &unix.OpenHow{
		Flags:   unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Mode:    0o600,
		Resolve: unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("create the core file: %w", err)
	}
	out := os.NewFile(uintptr(fd), "core file")
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		out.Close()
		return nil, fmt.Errorf("look at the core file: %w", err)
	}
	if st.Mode != unix.S_IFREG|0o600 || st.Nlink != 1 || int(st.Uid) != owner {
		out.Close()
		return nil, fmt.Errorf("create the core file: it has mode %o, owner %d and %d links", st.Mode, st.Uid, st.Nlink)
	}
	return out, nil
}

func openat2(path string, how *unix.OpenHow) (int, error) {
	for {
		fd, err := unix.Openat2(unix.AT_FDCWD, path, how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// copySparse writes pages; most bounds what is written beside holes, size the length of the file (RLIMIT_FSIZE).
func copySparse(out *os.File, stream io.Reader, most, size uint64) (int64, error) {
	buf := make([]byte, 64*pageSize)
	var zeros [pageSize]byte
	var at, written uint64
	for end := false; !end; {
		n, err := io.ReadFull(stream, buf)
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			end = true
		case err != nil:
			return int64(at), errors.Join(err, out.Truncate(int64(at)))
		}
		for page := range bytesOfPages(buf[:n]) {
			l := uint64(len(page))
			hole := bytes.Equal(page, zeros[:l])
			if at+l > size || !hole && written+l > most {
				return int64(at), out.Truncate(int64(at))
			}
			if !hole {
				if _, err := out.WriteAt(page, int64(at)); err != nil {
					return int64(at), err
				}
				written += l
			}
			at += l
		}
	}
	return int64(at), out.Truncate(int64(at))
}

func bytesOfPages(b []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			n := min(pageSize, len(b))
			if !yield(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
}

// place is where a process's file names lead, and with which rights.
type place struct {
	root, cwd int // O_PATH descriptors
	rights    rights
	fileSize  uint64 // RLIMIT_FSIZE
}

func openPlace(pid, dumpable int, hostRoot string) (*place, error) {
	p := &place{root: -1, cwd: -1, fileSize: math.MaxInt64}
	const how = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	if dumpable == 2 {
		root, err := unix.Open(hostRoot, how, 0)
		p.root, p.cwd = root, root
		p.rights = rights{capabilities: math.MaxUint64}
		return p, err
	}
	proc, err := unix.Open(fmt.Sprintf("/proc/%d", pid), how, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(proc)
	if p.rights, err = readRights(proc); err == nil {
		p.root, err = unix.Openat(proc, "root", how, 0)
	}
	if err == nil {
		p.cwd, err = unix.Openat(proc, "cwd", how, 0)
	}
	var limits []byte
	if err == nil {
		limits, err = readAt(proc, "limits", rlimit.MaxFile)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	if limit, ok := rlimit.Soft(limits, rlimit.FileSize); ok {
		p.fileSize = min(limit, math.MaxInt64)
	}
	return p, nil
}

func (p *place) close() {
	for _, fd := range []int{p.root, p.cwd} {
		if fd >= 0 {
			unix.Close(fd)
		}
		if p.root == p.cwd {
			break
		}
	}
}

// enter makes the thread, which must be locked and end afterwards, look up names as the process does.
func (p *place) enter() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare the file system attributes of a thread: %w", err)
	}
	if err := unix.Fchdir(p.root); err != nil {
		return fmt.Errorf("enter its root directory: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("make its root directory ours (needs CAP_SYS_CHROOT): %w", err)
	}
	if err := unix.Fchdir(p.cwd); err != nil {
		return fmt.Errorf("enter its working directory: %w", err)
	}
	unix.Umask(0o077)
	return p.rights.take()
}
