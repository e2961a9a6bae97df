// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Writer writes one entry. It ends with Finish or Discard, or with the process: then Salvage finishes the entry.
type Writer struct {
	*Entry
	spool *Spool
}

// Create makes an entry in incoming and locks it. The name is best one of NewName; one that is taken is an error (fs.ErrExist).
func (s *Spool) Create(name string) (*Writer, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	// It gets its name when it is locked: Salvage does not see it before.
	hidden := newPrefix + name
	err := s.root.Mkdir(incomingDir+"/"+hidden, 0o700)
	var e *Entry
	if err == nil {
		e, err = s.open(incomingDir, hidden)
	}
	if err != nil {
		return nil, fmt.Errorf("make entry %s: %w", name, err)
	}
	e.name = name
	if err = flock(e.dir, unix.LOCK_EX|unix.LOCK_NB); err == nil {
		err = s.rename(incomingDir+"/"+hidden, incomingDir+"/"+name)
	}
	if err != nil {
		_ = s.root.Remove(incomingDir + "/" + hidden)
		e.Close()
		return nil, fmt.Errorf("make entry %s: %w", name, err)
	}
	return &Writer{Entry: e, spool: s}, nil
}

// newPrefix hides the directory of an entry that is not yet locked.
const newPrefix = ".new-"

// flock is flock(2), which signals interrupt; the Go runtime sends itself some.
func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

// named tells whether the entry still has its name in that directory.
func (s *Spool) named(dir string, e *Entry) bool {
	there, err := s.root.Lstat(dir + "/" + e.name)
	if err != nil {
		return false
	}
	here, err := e.dir.Stat()
	return err == nil && os.SameFile(there, here)
}

// Spool is the spool that the entry is in. It is the caller's of Create, and not closed by the writer.
func (w *Writer) Spool() *Spool { return w.spool }

// WriteMeta writes what the kernel said of the crash. It comes before the core: an entry without it is worth nothing.
func (w *Writer) WriteMeta(m *Meta) error { return w.WriteFile(MetaFile, encode(m)) }

// CreateCore makes the file of the core. The caller closes it before Finish.
func (w *Writer) CreateCore() (*os.File, error) { return w.Create(CoreFile) }

// RemoveCore removes the core again, of a dump that is suppressed after all.
func (w *Writer) RemoveCore() error {
	if err := w.root.Remove(CoreFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Finish syncs the entry, writes its outcome and moves it to ready. It ends the writer also where it fails; then the entry is left to Salvage.
func (w *Writer) Finish(o Outcome) error {
	err := w.spool.finish(w.Entry, o)
	return errors.Join(err, w.Close())
}

// Discard removes the entry as if it had never been.
func (w *Writer) Discard() error {
	err := w.spool.removeFrom(incomingDir, w.name)
	return errors.Join(err, w.Close())
}

// finish brings a locked entry from incoming to ready. The order is what makes it safe: an outcome says that everything else is on the disk.
func (s *Spool) finish(e *Entry, o Outcome) error {
	if err := e.syncAll(); err != nil {
		return fmt.Errorf("sync entry %s: %w", e.name, err)
	}
	if err := e.writeFile(OutcomeFile, encode(&o), true); err != nil {
		return err
	}
	return s.publish(e)
}

// publish moves an entry that has its outcome to ready.
func (s *Spool) publish(e *Entry) error {
	err := e.dir.Sync()
	if err == nil {
		err = s.move(incomingDir, readyDir, e.name)
	}
	if err == nil {
		err = s.sync(readyDir, incomingDir)
	}
	if err != nil {
		return fmt.Errorf("finish entry %s: %w", e.name, err)
	}
	return nil
}

// move moves an entry to another directory.
func (s *Spool) move(from, to, name string) error { return s.rename(from+"/"+name, to+"/"+name) }

// rename renames a directory, never over another one.
func (s *Spool) rename(from, to string) error {
	fd := int(s.dir.Fd())
	err := unix.Renameat2(fd, from, fd, to, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL { // not every file system can; rename(2) itself refuses a directory that is not empty
		err = unix.Renameat(fd, from, fd, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// syncAll syncs the files and directories of the entry.
func (e *Entry) syncAll() error {
	files, dirs, err := e.walk(".")
	if err != nil {
		return err
	}
	for _, name := range append(files, dirs...) {
		f, err := e.root.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}
