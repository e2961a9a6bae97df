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
	r, _, err := s.roomFor(l, "")
	return r, err
}

// RoomFor is Room for an entry, whose name is by NewName. A pod that has dumps waiting already has half of the spool at most: while nobody uploads, one that crashes in a loop
// must not take the room of all others. The first dump of a pod may take what there is.
func (s *Spool) RoomFor(l Limits, name string) (Room, error) {
	r, u, err := s.roomFor(l, name)
	if err != nil {
		return Room{}, err
	}
	return r.share(l, u), nil
}

// share is the arithmetic of RoomFor.
func (r Room) share(l Limits, u usage) Room {
	if u.others.Bytes > int64(u.others.Entries)*flatBytes { // there is a core among them
		r.Bytes = max(0, min(r.Bytes, (u.all.Bytes+r.Bytes)/2-u.others.Bytes-u.entry.Bytes))
	}
	if l.Entries > 0 && u.others.Entries >= (l.Entries+1)/2 {
		return Room{}
	}
	return r
}

func (s *Spool) roomFor(l Limits, name string) (r Room, u usage, err error) {
	if u, err = s.usage(name); err != nil {
		return Room{}, u, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(s.dir.Fd()), &st); err != nil {
		return Room{}, u, fmt.Errorf("look at the spool's file system: %w", err)
	}
	return room(l, u.all, int64(min(st.Bavail*uint64(st.Bsize), math.MaxInt64)), int64(st.Ffree), st.Files > 0), u, nil
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
