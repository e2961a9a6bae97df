// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package podcopy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// mode of a copy: a dump holds every secret of the process.
	mode = 0o600
	// chunk is how much is copied between two looks at the deadline, and between is how much between two looks at the room.
	chunk, between = 1 << 20, 64 << 20
	// grace is how long a copy may take to clean up after its deadline.
	grace = 2 * time.Second
)

// Write copies the core, a regular file, which stays the caller's, and uses the target up. Whoever looks sees the copy whole or not at
// all. It returns soon after ctx ends at the latest. size is the length of the copy in bytes.
func (t *Target) Write(ctx context.Context, core *os.File) (size int64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("copy the dump to %s: %w", t.Path(), err)
		}
	}()
	dir := t.dir.Swap(nil)
	if dir == nil {
		return 0, os.ErrClosed
	}
	in, st, err := reopen(core)
	if err != nil {
		dir.Close()
		return 0, err
	}
	closeBoth := func() { in.Close(); dir.Close() }
	c := t.copier
	if st.Size > c.limits.MaxSize {
		closeBoth()
		return 0, fmt.Errorf("%w: it has %d bytes, and %d are allowed", ErrTooLarge, st.Size, c.limits.MaxSize)
	}
	err = c.run(ctx, c.writing, grace, func() error {
		defer closeBoth()
		return as(t.owner, func() error {
			w := writer{copier: c, dir: int(dir.Fd()), in: int(in.Fd()), size: st.Size, data: st.Blocks * 512}
			return w.write(ctx, t.name)
		})
	}, closeBoth, func() {})
	if err != nil {
		return 0, err
	}
	return st.Size, nil
}

// reopen opens the same file again: its position is not the caller's.
func reopen(f *os.File) (*os.File, *unix.Stat_t, error) {
	var st unix.Stat_t
	again, err := os.Open(descriptor(int(f.Fd())))
	if err != nil {
		return nil, nil, err
	}
	err = unix.Fstat(int(again.Fd()), &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("the core is no regular file")
	}
	if err != nil {
		return nil, nil, errors.Join(err, again.Close())
	}
	return again, &st, nil
}

func descriptor(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// writer makes one copy. It runs with the rights of the owner.
type writer struct {
	copier  *Copier
	dir, in int
	// size is the length of the core, data how much of it is there, in bytes.
	size, data int64
}

func (w *writer) write(ctx context.Context, name string) error {
	if err := w.room(w.data); err != nil {
		return err
	}
	out, temporary, err := w.create()
	if err != nil {
		return err
	}
	err = w.copy(ctx, out)
	if err == nil {
		err = w.copier.sync(out) // network file systems tell only now that there is no room
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = w.publish(out, temporary, name)
	}
	// After a rename the temporary name is gone. Whatever has it now is in a directory of its own pod.
	if temporary != "" {
		if e := unix.Unlinkat(w.dir, temporary, 0); e != unix.ENOENT && e != nil && err == nil {
			err = e
		}
	}
	return errors.Join(err, unix.Close(out))
}

func (w *writer) room(need int64) error {
	var st unix.Statfs_t
	if err := fstatfs(w.dir, &st); err != nil {
		return err
	}
	return w.copier.room(&st, need)
}

// create makes a file without a name, or, where the file system knows no such thing, one with a name that nobody can foresee.
func (w *writer) create() (fd int, temporary string, err error) {
	if w.copier.nameless {
		fd, err = openat2(w.dir, ".", unix.O_TMPFILE|unix.O_WRONLY, mode, resolve)
		if err != unix.EOPNOTSUPP && err != unix.EISDIR && err != unix.EINVAL {
			return fd, "", err
		}
	}
	temporary = ".coredump-" + rand.Text() + ".tmp"
	fd, err = openat2(w.dir, temporary, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_WRONLY, mode, resolve)
	return fd, temporary, err
}

// publish gives the file its name, if that is free.
func (w *writer) publish(out int, temporary, name string) error {
	var err error
	if temporary == "" {
		// Of the descriptor, not of a name: proc(5), linkat(2).
		err = unix.Linkat(unix.AT_FDCWD, descriptor(out), w.dir, name, unix.AT_SYMLINK_FOLLOW)
	} else {
		err = unix.Renameat2(w.dir, temporary, w.dir, name, unix.RENAME_NOREPLACE)
		if err == unix.EINVAL || err == unix.ENOSYS { // NFS
			err = unix.Linkat(w.dir, temporary, w.dir, name, 0)
		}
	}
	if err == unix.EEXIST {
		return ErrExists
	}
	return err
}

// copy copies what is there and leaves out holes; see lseek(2), SEEK_DATA.
func (w *writer) copy(ctx context.Context, out int) error {
	buf := make([]byte, min(chunk, max(w.size, 1)))
	checked := int64(0)
	for at := int64(0); at < w.size; {
		start, err := unix.Seek(w.in, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break // nothing but a hole up to the end
		}
		end := w.size
		if err == nil {
			end, err = unix.Seek(w.in, start, unix.SEEK_HOLE)
		} else if err == unix.EINVAL {
			start, err = at, nil // a file system without holes
		}
		if err != nil {
			return err
		}
		for at = start; at < min(end, w.size); {
			if err := ctx.Err(); err != nil {
				return err
			}
			if at-checked >= between {
				if err := w.room(between); err != nil {
					return err
				}
				checked = at
			}
			n, err := w.chunk(out, buf[:min(int64(len(buf)), min(end, w.size)-at)], at)
			if err != nil {
				return err
			}
			at += int64(n)
		}
	}
	return unix.Ftruncate(out, w.size)
}

// chunk copies some bytes at an offset.
func (w *writer) chunk(out int, buf []byte, at int64) (int, error) {
	n, err := unix.Pread(w.in, buf, at)
	switch {
	case err == unix.EINTR:
		return 0, nil
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.ErrUnexpectedEOF // it is shorter than it was
	}
	for done := 0; done < n; {
		m, err := unix.Pwrite(out, buf[done:n], at+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, err
		}
		done += m
	}
	return n, nil
}
