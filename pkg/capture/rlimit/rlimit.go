// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package rlimit reads the resource limits of other processes where prlimit(2) would need CAP_SYS_RESOURCE: from /proc/pid/limits.
package rlimit

import (
	"bytes"
	"math"
	"strconv"
)

// Names of limits in /proc/pid/limits; see proc_pid_limits(5).
const (
	Core     = "Max core file size"
	FileSize = "Max file size"
)

// MaxFile bounds what has to be read of /proc/pid/limits.
const MaxFile = 4096

// Soft finds the soft limit of that name in the content of /proc/pid/limits; math.MaxUint64 is none.
func Soft(limits []byte, name string) (limit uint64, ok bool) {
	for line := range bytes.Lines(limits) {
		rest, found := bytes.CutPrefix(line, []byte(name+" "))
		if !found {
			continue
		}
		fields := bytes.Fields(rest)
		if len(fields) == 0 {
			return 0, false
		}
		if string(fields[0]) == "unlimited" {
			return math.MaxUint64, true
		}
		n, err := strconv.ParseUint(string(fields[0]), 10, 64)
		return n, err == nil
	}
	return 0, false
}
