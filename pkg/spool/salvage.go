// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/corefile"
)

// Salvaged is what Salvage did with the entries whose writers are gone. It names them.
type Salvaged struct {
	// Finished are now in ready, Removed held nothing, Aside made no sense.
	Finished, Removed, Aside []string
}

// Salvage finishes every entry in incoming whose writer was killed, and every removal that was. It does not touch entries whose writers live. An entry
//
//   - with an outcome was complete: it only moves to ready;
//   - with the core at its promised length is complete too, if nothing can have been lost with the machine's memory, that is, in the same boot;
//   - with less is marked ReasonAbandoned: as truncated, or as suppressed where not a byte had come;
//   - without a meta.json, before the first byte of the core, is removed: nobody knows what it was to be;
//   - with an unreadable meta.json, or with a core and none, is set aside.
//
// It goes on after errors with the other entries and returns them joined.
func (s *Spool) Salvage() (Salvaged, error) {
	var done Salvaged
	var errs []error
	incoming, err := s.Incoming()
	errs = append(errs, err)
	boot := BootID()
	for _, name := range incoming {
		if err := s.salvage(name, boot, &done); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("salvage entry %s: %w", name, err))
		}
	}
	errs = append(errs, s.sweepNew())
	gone, err := s.list(goneDir)
	errs = append(errs, err)
	for _, name := range gone {
		errs = append(errs, s.root.RemoveAll(goneDir+"/"+name))
	}
	return done, errors.Join(errs...)
}

// newAge is how long the making of an entry may take, which is two system calls, before it is taken for abandoned.
const newAge = time.Minute

// sweepNew removes the directories of entries whose writers were killed before they had a name. They are empty.
func (s *Spool) sweepNew() error {
	d, err := s.root.Open(incomingDir)
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	errs := []error{err}
	for _, name := range names {
		if !strings.HasPrefix(name, newPrefix) {
			continue
		}
		if st, err := s.root.Lstat(incomingDir + "/" + name); err == nil && time.Since(st.ModTime()) > newAge {
			errs = append(errs, s.root.Remove(incomingDir+"/"+name))
		}
	}
	return errors.Join(errs...)
}

func (s *Spool) salvage(name, boot string, done *Salvaged) error {
	e, err := s.open(incomingDir, name)
	if err != nil {
		return err // fs.ErrNotExist: its writer finished it just now
	}
	defer e.Close()
	switch err := flock(e.dir, unix.LOCK_EX|unix.LOCK_NB); {
	case err == unix.EWOULDBLOCK:
		return nil
	case err != nil:
		return err
	case !s.named(incomingDir, e):
		return nil
	}
	if _, err := e.Outcome(); err == nil {
		done.Finished = append(done.Finished, name)
		return s.publish(e)
	}
	size, err := e.coreSize()
	if err != nil {
		return err
	}
	meta, err := e.Meta()
	switch {
	case err == nil:
		done.Finished = append(done.Finished, name)
		return s.finish(e, e.abandoned(size, meta.BootID == boot))
	case size == 0 && e.nothingSaid():
		done.Removed = append(done.Removed, name)
		return s.removeFrom(incomingDir, name)
	}
	done.Aside = append(done.Aside, name)
	return s.setAside(incomingDir, name, err.Error())
}

func (e *Entry) coreSize() (int64, error) {
	st, err := e.root.Lstat(CoreFile)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// nothingSaid tells whether there is no meta.json, or an empty one, as a file system may leave it after a power cut.
func (e *Entry) nothingSaid() bool {
	st, err := e.root.Lstat(MetaFile)
	return errors.Is(err, fs.ErrNotExist) || err == nil && st.Size() == 0
}

// abandoned is the outcome of an entry whose writer did not get to write one.
func (e *Entry) abandoned(size int64, sameBoot bool) Outcome {
	o := Outcome{Size: size, Error: "what took the dump was killed"}
	if size == 0 {
		o.Suppressed = ReasonAbandoned
		return o
	}
	if f, err := e.OpenCore(); err == nil {
		if h, err := corefile.ReadHeader(bufio.NewReader(f)); err == nil {
			o.PromisedSize = h.PromisedSize
		}
		f.Close()
	}
	if o.PromisedSize == 0 || size < o.PromisedSize || !sameBoot {
		o.Truncated = ReasonAbandoned
	}
	return o
}

// BootID is /proc/sys/kernel/random/boot_id, "" where it cannot be read.
func BootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}
