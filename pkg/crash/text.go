// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import "strconv"

// path makes a path of a tenant fit to be shown: what is not printable ASCII is escaped as in Go strings, and of what is too long the end is left.
func path(s string) string {
	return tail(quoted(tail(s)))
}

// quoted gives s unchanged where it is printable ASCII.
func quoted(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			q := strconv.QuoteToASCII(s)
			return q[1 : len(q)-1]
		}
	}
	return s
}

func tail(s string) string {
	const cut = "..."
	if len(s) <= maxPath {
		return s
	}
	return cut + s[len(s)-maxPath+len(cut):]
}
