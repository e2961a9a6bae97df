// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"example.io/coredump/pkg/cgroup"
)

const maxName = 128

// ErrName is the kind of the errors for names that are none of an entry.
var ErrName = errors.New("not the name of an entry")

// NewName makes a name for the entry of a crash. Names begin with the crash's time, so a sorted list is oldest first, and end with a mark of the pod, so that
// RoomFor counts what is a pod's without opening anything.
func NewName(m *Meta) string {
	var random [6]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	return fmt.Sprintf("%011d-%s-%s-%s", max(0, m.CrashTime/1e9), strconv.FormatInt(max(0, m.HostPID), 10), hex.EncodeToString(random[:]), mark(m))
}

// mark stands for the pod in names. All processes of which it cannot be told share one.
func mark(m *Meta) string {
	id, err := cgroup.Parse(m.Cgroup)
	if err != nil || !m.Verified {
		return "none"
	}
	sum := sha256.Sum256([]byte(id.PodUID))
	return hex.EncodeToString(sum[:6])
}

// markOf gives the mark in a name.
func markOf(name string) string { return name[strings.LastIndexByte(name, '-')+1:] }

// checkName allows what NewName makes and a little more: never a path, never hidden.
func checkName(name string) error {
	ok := name != "" && len(name) <= maxName && name[0] != '.' && name[0] != '-'
	for i := 0; ok && i < len(name); i++ {
		c := name[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-'
	}
	if !ok {
		return fmt.Errorf("%w: %.140q", ErrName, name)
	}
	return nil
}
