// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"
)

// Ready lists the finished entries, oldest first.
func (s *Spool) Ready() ([]string, error) { return s.list(readyDir) }

// Incoming lists the entries that are being written or were abandoned, oldest first.
func (s *Spool) Incoming() ([]string, error) { return s.list(incomingDir) }

// Aside lists the entries that were set aside, oldest first.
func (s *Spool) Aside() ([]string, error) { return s.list(asideDir) }

func (s *Spool) list(dir string) ([]string, error) {
	d, err := s.root.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("list the spool: %w", err)
	}
	defer d.Close()
	var names []string
	for {
		some, err := d.Readdirnames(1024)
		for _, name := range some {
			if checkName(name) == nil {
				names = append(names, name)
			}
		}
		if err == io.EOF {
			slices.Sort(names)
			return names, nil
		} else if err != nil {
			return nil, fmt.Errorf("list the spool: %w", err)
		}
	}
}

// Usage is what a spool takes of its file system.
type Usage struct {
	// Bytes are those of the cores, in blocks that are really allocated, and a flat 64 KiB an entry for all else in it.
	Bytes int64
	// Entries is their number, wherever in the spool they are.
	Entries int
}

// flatBytes stand for what is in an entry beside the core, so that counting needs one look an entry: it is done while a process is held.
const flatBytes = 64 << 10

// Usage counts what is in the spool now.
func (s *Spool) Usage() (Usage, error) {
	u, err := s.usage("")
	return u.all, err
}

// usage counts all that is in the spool, the named entry, and what else is of its pod.
type usage struct{ all, entry, others Usage }

func (s *Spool) usage(of string) (u usage, err error) {
	for _, dir := range []string{incomingDir, readyDir, asideDir, goneDir} {
		names, err := s.list(dir)
		if err != nil {
			return u, err
		}
		for _, name := range names {
			bytes := int64(flatBytes)
			var st unix.Stat_t
			switch err := unix.Fstatat(int(s.dir.Fd()), dir+"/"+name+"/"+CoreFile, &st, unix.AT_SYMLINK_NOFOLLOW); {
			case err == nil:
				bytes += st.Blocks * 512
			case !errors.Is(err, fs.ErrNotExist):
				return u, fmt.Errorf("look at entry %s: %w", name, err)
			}
			u.all.add(bytes)
			switch {
			case name == of:
				u.entry.add(bytes)
			case of != "" && markOf(name) == markOf(of):
				u.others.add(bytes)
			}
		}
	}
	return u, nil
}

func (u *Usage) add(bytes int64) {
	u.Entries++
	u.Bytes += bytes
}
