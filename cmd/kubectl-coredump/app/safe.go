// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"strings"

	"example.io/coredump/pkg/registry/table"
)

// text is a string that somebody else made up, on one line and safe for a terminal.
func text(s string) string { return table.Text(s) }

// lines is text of several lines, of at most n bytes, safe for a terminal.
func lines(s string, n int) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && (r < ' ' || r > '~') {
			return '?'
		}
		return r
	}, s[:min(len(s), n)])
}

// line is text of at most n bytes on one line, safe for a terminal.
func line(s string, n int) string { return strings.ReplaceAll(lines(s, n), "\n", " ") }

// word reduces what somebody else made up to letters, digits, dots, dashes and underscores, at most n of them, not beginning with a dot or a dash. It is
// fit for a part of a file name.
func word(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '-', r == '_':
			return r
		}
		return '_'
	}, s)
	s = strings.TrimLeft(s[:min(len(s), n)], ".-")
	if s == "" {
		return "unknown"
	}
	return s
}
