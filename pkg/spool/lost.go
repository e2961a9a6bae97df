// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lostFile holds a number of 8 bytes, little-endian.
const lostFile = "lost"

// Lost counts a dump for which there was no room for even an entry. Where the number was there before it needs no room itself.
func (s *Spool) Lost() error {
	_, err := s.changeLost(func(n uint64) uint64 { return n + 1 })
	return err
}

// TakeLost gives how many were lost since it was called last. They are told once: where the caller is killed before it tells, never.
func (s *Spool) TakeLost() (uint64, error) {
	return s.changeLost(func(uint64) uint64 { return 0 })
}

// changeLost changes the number under a lock, and gives what it was before.
func (s *Spool) changeLost(change func(uint64) uint64) (was uint64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("count lost dumps: %w", err)
		}
	}()
	f, err := s.root.OpenFile(lostFile, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := flock(f, unix.LOCK_EX); err != nil {
		return 0, err
	}
	var b [8]byte
	if _, err := f.ReadAt(b[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	n := binary.LittleEndian.Uint64(b[:])
	binary.LittleEndian.PutUint64(b[:], change(n))
	if _, err := f.WriteAt(b[:], 0); err != nil {
		return 0, err
	}
	return n, nil
}
