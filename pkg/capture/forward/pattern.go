// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package forward gives a crash that is not ours to what the host had before us, as the kernel would have: to the program of a
// pipe pattern with its own arguments and the same stream, or into a file. See core(5) and format_corename, do_coredump in the kernel's fs/coredump.c.
package forward

import (
	"fmt"
	"strings"
)

// MaxPattern is the longest core_pattern in bytes.
const MaxPattern = 127

// Kind is where a pattern sends dumps to.
type Kind int

// The kinds.
const (
	// ToNothing: the kernel makes no dump.
	ToNothing Kind = iota
	// ToFile: a file, whose path may be relative to the process's working directory.
	ToFile
	// ToProgram: the standard input of a program.
	ToProgram
	// ToSocket: an AF_UNIX socket (@path and @@path). Kernels older than 6.16 take that for the name of a file; we do not write one.
	ToSocket
)

// Pattern is a core_pattern.
type Pattern struct {
	text string
	kind Kind
}

// Parse understands a core_pattern as it is read from /proc/sys/kernel/core_pattern, without the newline. It fails where there cannot be such a one.
func Parse(text string) (Pattern, error) {
	if len(text) > MaxPattern {
		return Pattern{}, fmt.Errorf("core_pattern of %d bytes: the kernel has at most %d", len(text), MaxPattern)
	}
	if strings.ContainsAny(text, "\x00\n") {
		return Pattern{}, fmt.Errorf("core_pattern %q has a NUL or newline in it", text)
	}
	p := Pattern{text: text, kind: ToFile}
	switch {
	case text == "":
		p.kind = ToNothing
	case text[0] == '@':
		p.kind = ToSocket
	case text[0] == '|':
		p.kind = ToProgram
		if onlyBlanks(text[1:]) {
			p.kind = ToNothing
		}
	}
	return p, nil
}

func (p Pattern) String() string { return p.text }

// Kind is where the pattern sends dumps to. A pattern of kind ToFile may still turn out to name nothing, see Path.
func (p Pattern) Kind() Kind { return p.kind }

// Value gives what the kernel would put in the place of a specifier, by its letter: escaped (see Escape) where it is %e, %f, %E or %h, "" where the kernel does
// not know the letter. %% never gets there.
type Value func(letter byte) string

// isBlank is isspace() of the kernel's lib/ctype.c, for which 0xa0 is one.
func isBlank(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' || c == 0xa0 }

func onlyBlanks(s string) bool {
	for i := range len(s) {
		if !isBlank(s[i]) {
			return false
		}
	}
	return true
}

// Args are program and arguments of a pattern of kind ToProgram. The pattern is split at blanks before it is expanded, as since Linux 5.3, so that no value becomes two
// arguments. It is nil for other kinds and where no program is left.
func (p Pattern) Args(value Value) []string {
	if p.kind != ToProgram {
		return nil
	}
	args, blank, used := []string{""}, false, 0
	for i := 1; i < len(p.text); i++ {
		c := p.text[i]
		if isBlank(c) {
			blank = blank || used > 0
			continue
		}
		if blank {
			blank = false
			args = append(args, "")
			used++ // the NUL between them
		}
		s := string(c)
		if c == '%' {
			if i++; i == len(p.text) {
				break // a single % at the end is dropped
			}
			s = expand(p.text[i], value)
		}
		args[len(args)-1] += s
		used += len(s)
	}
	if args[0] == "" {
		return nil
	}
	return args
}

// Path is the name of the file of a pattern of kind ToFile: absolute, or relative to the working directory of the process. usesPID is
// kernel.core_uses_pid. It is "" where there is to be no file, and for other kinds.
func (p Pattern) Path(value Value, usesPID bool) string {
	if p.kind != ToFile && !(p.kind == ToNothing && p.text == "") {
		return ""
	}
	var b strings.Builder
	hasPID := false
	for i := 0; i < len(p.text); i++ {
		if p.text[i] != '%' {
			b.WriteByte(p.text[i])
			continue
		}
		if i++; i == len(p.text) {
			break
		}
		switch p.text[i] {
		case 'F': // a descriptor means nothing in a file's name
		case 'p':
			hasPID = true
			fallthrough
		default:
			b.WriteString(expand(p.text[i], value))
		}
	}
	if usesPID && !hasPID {
		b.WriteString("." + value('p'))
	}
	return b.String()
}

func expand(letter byte, value Value) string {
	switch letter {
	case '%':
		return "%"
	case 'p', 'P', 'i', 'I', 'u', 'g', 'd', 's', 't', 'h', 'e', 'f', 'E', 'c', 'C', 'F':
		return value(letter)
	}
	return "" // unknown ones vanish
}

// Escape makes a text that the process controls one component of a path, as the kernel does (cn_esc_printf): slashes become exclamation marks, and so does what
// would be ".", ".." or nothing.
func Escape(s string) string {
	switch s {
	case "", ".":
		return "!"
	case "..":
		return "!."
	}
	return strings.ReplaceAll(s, "/", "!")
}
