// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

const maxName = 128

// ErrName is the kind of the errors for names that are none of an entry.
var ErrName = errors.New("not the name of an entry")

// NewName makes a name for the entry of a crash. Names begin with the crash's time, so a sorted list is oldest first.
func NewName(m *Meta) string {
	var random [6]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	return fmt.Sprintf("%011d-%s-%s", max(0, m.CrashTime/1e9), strconv.FormatInt(max(0, m.HostPID), 10), hex.EncodeToString(random[:]))
}

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
