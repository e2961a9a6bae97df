// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package httprange

import (
	"math"
	"strings"
)

// result is what a header Range comes to.
type result int

const (
	ignored result = iota
	partial
	unsatisfiable
)

// parse understands a header Range (RFC 9110, section 14.2) of a representation of size bytes. offset and length are valid
// where it is partial; length is positive then.
func parse(field string, size int64) (offset, length int64, r result) {
	unit, set, ok := strings.Cut(field, "=")
	if !ok || !strings.EqualFold(trim(unit), "bytes") || size == 0 {
		return 0, 0, ignored
	}
	only := ""
	for spec := range strings.SplitSeq(set, ",") {
		if spec = trim(spec); spec == "" {
			continue
		}
		if only != "" {
			return 0, 0, ignored
		}
		only = spec
	}
	if only == "" {
		return 0, 0, ignored
	}
	first, last, ok := strings.Cut(only, "-")
	first, last = trim(first), trim(last)
	from, fromOK := number(first)
	to, toOK := number(last)
	switch {
	case !ok:
		return 0, 0, unsatisfiable
	case first == "" && toOK && to > 0: // the last bytes
		length = min(to, size)
		return size - length, length, partial
	case fromOK && last == "":
		to = size - 1
	case !fromOK || !toOK || from > to:
		return 0, 0, unsatisfiable
	}
	if from >= size {
		return 0, 0, unsatisfiable
	}
	return from, min(to, size-1) - from + 1, partial
}

// number understands digits. What is too large becomes the largest number: it is behind the end in any case.
func number(s string) (n int64, ok bool) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		if digit := int64(c - '0'); n > (math.MaxInt64-digit)/10 {
			n = math.MaxInt64
		} else {
			n = n*10 + digit
		}
	}
	return n, s != ""
}
