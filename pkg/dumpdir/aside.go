// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package dumpdir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"example.io/coredump/pkg/upload"
)

// AsideDir is the directory, in the watched one, where files go that are kept but not uploaded. It also carries the lock.
const AsideDir = ".aside"

// SpoolDir is the directory for dumps that the kernel delivers, see package spool. Watchers leave it alone.
const SpoolDir = ".spool"

// reserved tells whether a name in the watched directory is ours and not looked into. No namespace can be called so.
func reserved(name string) bool { return name == AsideDir || name == SpoolDir }

// openAside makes the directory for what is set aside, or takes the one that is there if nobody but us can use it.
func (r *Root) openAside() (*os.File, error) {
	name := r.path + "/" + AsideDir
	if err := unix.Mkdirat(int(r.dir.Fd()), AsideDir, 0o700); err != nil && err != unix.EEXIST {
		return nil, fmt.Errorf("make %q: %w", name, err)
	}
	dir, err := r.openDir(AsideDir)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		dir.Close()
		return nil, fmt.Errorf("stat %q: %w", name, err)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		dir.Close()
		return nil, fmt.Errorf("%q belongs to user %d and has mode %04o: it must be ours (%d) and nobody else's (0700); move it away", name, st.Uid, st.Mode&0o7777, os.Geteuid())
	}
	return dir, nil
}

// Lock takes the directory for this process, until the root is closed or the process ends. It waits while another node handler
// has it.
func (r *Root) Lock(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for waiting := false; ; waiting = true {
		err := unix.Flock(int(r.aside.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if err != unix.EWOULDBLOCK {
			return fmt.Errorf("lock %q: %w", r.path, err)
		}
		if !waiting {
			klog.FromContext(ctx).Info("Waiting: another node handler has the directory", "directory", r.path)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("another node handler has the directory %q: %w", r.path, ctx.Err())
		}
	}
}

// tryLease finds out whether leases work here, on a file of our own that nobody has open for writing. That the directory can be
// written to shows by the way.
func (r *Root) tryLease() (bool, error) {
	aside, name := int(r.aside.Fd()), "lease-"+uuid.NewString()
	if err := writeFile(aside, name, nil); err != nil {
		return false, fmt.Errorf("write to %q: %w", r.path+"/"+AsideDir, err)
	}
	defer func() { _ = unix.Unlinkat(aside, name, 0) }()
	fd, err := openat(aside, name, unix.O_RDONLY)
	if err != nil {
		return false, fmt.Errorf("read from %q: %w", r.path+"/"+AsideDir, err)
	}
	defer unix.Close(fd)
	return leased(fd) == writerNone, nil
}

// asideNote is what lies beside a file that was set aside.
type asideNote struct {
	// Path is where the file was, quoted where it is not printable.
	Path   string        `json:"path"`
	Reason upload.Reason `json:"reason"`
	Why    string        `json:"why"`
	Size   int64         `json:"size"`
	Time   time.Time     `json:"time"`
}

// SetAside moves the file to <directory>/.aside/<uuid> and writes <uuid>.json beside it, which says what it was
// and why. It fails with upload.ErrChanged where the file was changed or its name is another's by now.
func (f *File) SetAside(reason upload.Reason, why string) error {
	if err := f.stillNamed(); err != nil {
		return err
	}
	aside := int(f.root.aside.Fd())
	id := uuid.NewString()
	if err := unix.Renameat2(f.parent, f.base, aside, id, unix.RENAME_NOREPLACE); err != nil {
		return fmt.Errorf("set aside %s: %w", f, err)
	}
	note, err := json.MarshalIndent(asideNote{printable(f.path), reason, why, f.stat.Size, time.Now().UTC()}, "", "  ")
	if err != nil {
		return fmt.Errorf("set aside %s: %w", f, err)
	}
	if err := writeFile(aside, id+".json", append(note, '\n')); err != nil {
		return fmt.Errorf("set aside %s as %s: note: %w", f, id, err)
	}
	setAside.WithLabelValues(string(reason)).Inc()
	return nil
}

func writeFile(dir int, name string, data []byte) error {
	fd, err := openatCreate(dir, name)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), name)
	_, err = file.Write(data)
	return errors.Join(err, file.Close())
}

func openatCreate(dir int, name string) (int, error) {
	return unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
}
