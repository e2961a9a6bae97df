// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// Limits keep a spool from filling its file system. Zero is no limit.
type Limits struct {
	// Bytes is what all entries together may take, Entries how many there may be.
	Bytes   int64
	Entries int
	// FreeBytes and FreeInodes are what has to stay free of the file system.
	FreeBytes  int64
	FreeInodes int64
}

// Room is what the limits leave.
type Room struct {
	// Bytes may be written before a limit is reached; not less than 0.
	Bytes int64
	// Entry is false where not even an entry may be made that only says that a dump was dropped.
	Entry bool
}

// Room tells what may be added now. Others may be writing at the same time, so a long dump asks again on the way.
func (s *Spool) Room(l Limits) (Room, error) {
	u, err := s.Usage()
	if err != nil {
		return Room{}, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(s.dir.Fd()), &st); err != nil {
		return Room{}, fmt.Errorf("look at the spool's file system: %w", err)
	}
	return room(l, u, int64(min(st.Bavail*uint64(st.Bsize), math.MaxInt64)), int64(st.Ffree), st.Files > 0), nil
}

// room is the arithmetic of Room. File systems without a fixed number of inodes (btrfs, vfat) report none at all.
func room(l Limits, u Usage, freeBytes, freeInodes int64, countsInodes bool) Room {
	bytes := freeBytes - l.FreeBytes
	if l.Bytes > 0 {
		bytes = min(bytes, l.Bytes-u.Bytes)
	}
	r := Room{Bytes: max(0, bytes), Entry: true}
	switch {
	case countsInodes && freeInodes < l.FreeInodes:
		r = Room{}
	case l.Entries > 0 && u.Entries >= l.Entries:
		r = Room{}
	case freeBytes < 1<<20: // records would only be half written
		r = Room{}
	}
	return r
}
