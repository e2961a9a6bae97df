// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// maxRecord bounds meta.json, outcome.json and identity.json.
	maxRecord = 256 << 10
	// maxFiles bounds the files of an entry that anybody lists.
	maxFiles = 1024
)

// Entry is an entry's directory, held open: it stays usable while the entry is renamed from incoming to ready, and fails with fs.ErrNotExist after
// its removal. Names of files are relative, with "/". Safe for concurrent use as far as the files differ.
type Entry struct {
	name string
	root *os.Root
	dir  *os.File
}

// Entry opens the entry of that name, wherever in incoming or ready it is. It fails with fs.ErrNotExist where there is none. The
// caller closes it.
func (s *Spool) Entry(name string) (*Entry, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	var err error
	// An entry moves from the first to the second, so this order cannot miss it.
	for _, dir := range []string{incomingDir, readyDir} {
		var e *Entry
		if e, err = s.open(dir, name); err == nil {
			return e, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return nil, fmt.Errorf("open entry %s: %w", name, err)
}

func (s *Spool) open(dir, name string) (*Entry, error) {
	root, err := s.root.OpenRoot(dir + "/" + name)
	if err != nil {
		return nil, err
	}
	d, err := root.Open(".")
	if err != nil {
		root.Close()
		return nil, err
	}
	return &Entry{name: name, root: root, dir: d}, nil
}

// Name is the entry's name.
func (e *Entry) Name() string { return e.name }

// Close gives up the entry, and where its writer does so without having finished, its lock.
func (e *Entry) Close() error { return errors.Join(e.root.Close(), e.dir.Close()) }

// Meta reads what the kernel said of the crash.
func (e *Entry) Meta() (*Meta, error) {
	b, err := e.ReadFile(MetaFile, maxRecord)
	if err != nil {
		return nil, err
	}
	return DecodeMeta(b)
}

// Outcome reads how the delivery ended. It fails with fs.ErrNotExist where it has not ended.
func (e *Entry) Outcome() (*Outcome, error) {
	b, err := e.ReadFile(OutcomeFile, maxRecord)
	if err != nil {
		return nil, err
	}
	return DecodeOutcome(b)
}

// OpenCore opens the core for reading. It fails with fs.ErrNotExist where the dump was suppressed. The caller closes it.
func (e *Entry) OpenCore() (*os.File, error) { return e.Open(CoreFile) }

// Open opens a file of the entry for reading; a plain file and nothing else. The caller closes it.
func (e *Entry) Open(name string) (*os.File, error) {
	f, err := e.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("not a plain file")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ReadFile reads a file of at most limit bytes; a longer one is an error.
func (e *Entry) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := e.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("it is longer than %d bytes", limit)}
	}
	return b, err
}

// WriteFile puts a file into the entry, whole or not at all. It works across the entry's rename to ready; what is written before Finish is
// also synced by it.
func (e *Entry) WriteFile(name string, data []byte) error {
	return e.writeFile(name, data, false)
}

func (e *Entry) writeFile(name string, data []byte, sync bool) error {
	// One writer a file, so one temporary name; it is hidden, so nobody takes it for content.
	temporary := path.Join(path.Dir(name), "."+path.Base(name)+".tmp")
	f, err := e.Create(temporary)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = e.root.Rename(temporary, name)
	}
	if err != nil {
		_ = e.root.Remove(temporary)
		return fmt.Errorf("write %s of entry %s: %w", name, e.name, err)
	}
	return nil
}

// Create makes a file with mode 0600, empty, and the directories on its way. The caller writes and closes it.
func (e *Entry) Create(name string) (*os.File, error) {
	const flags = os.O_RDWR | os.O_CREATE | os.O_TRUNC | unix.O_NOFOLLOW
	f, err := e.root.OpenFile(name, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) && path.Dir(name) != "." {
		if err = e.root.MkdirAll(path.Dir(name), 0o700); err == nil {
			f, err = e.root.OpenFile(name, flags, 0o600)
		}
	}
	return f, err
}

// ContextFiles lists the plain files below the context directory, relative to the entry, sorted, at most 1024 of them.
func (e *Entry) ContextFiles() ([]string, error) {
	files, _, err := e.walk(ContextDir)
	return files, err
}

// walk lists plain files and directories at and below a directory of the entry.
func (e *Entry) walk(below string) (files, dirs []string, err error) {
	err = fs.WalkDir(e.root.FS(), below, func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // never there, or renamed by its writer meanwhile
		case err != nil:
			return err
		case len(files)+len(dirs) >= maxFiles:
			return fs.SkipAll
		case d.IsDir():
			dirs = append(dirs, name)
		case d.Type().IsRegular() && !strings.HasPrefix(d.Name(), "."):
			files = append(files, name)
		}
		return nil
	})
	return files, dirs, err
}
