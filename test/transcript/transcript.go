// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package transcript is about documents that show what somebody types and what comes: the console blocks of Markdown. It finds the commands, tells whether what
// they print is what the document shows, and writes into the document what they printed. It runs nothing.
package transcript

import (
	"regexp"
	"strings"
)

// Command is a command of a document.
type Command struct {
	// As is who runs it: NAME of the last comment <!-- run as: NAME --> before it.
	As string
	// Line is what is behind "$ ", with the lines behind it that begin with "> ".
	Line string
	// Output is what the document shows until the next command or the end of the block: lines, or nothing.
	Output string

	start, end int // of Output in the document
}

var runAs = regexp.MustCompile(`^<!-- run as: ([a-z]+) -->\s*$`)

// Commands are those of a document, in order.
func Commands(document string) (commands []Command) {
	as, console, at := "", false, 0
	var last *Command
	for line := range strings.Lines(document) {
		start := at
		at += len(line)
		switch {
		case !console:
			if m := runAs.FindStringSubmatch(line); m != nil {
				as = m[1]
			}
			console = strings.TrimSpace(line) == "```console"
		case strings.HasPrefix(line, "```"):
			console, last = false, nil
		case strings.HasPrefix(line, "$ "):
			commands = append(commands, Command{As: as, Line: strings.TrimSpace(line[2:]), start: at, end: at})
			last = &commands[len(commands)-1]
		case last != nil && last.Output == "" && strings.HasPrefix(line, "> "):
			last.Line += "\n" + strings.TrimRight(line[2:], "\n")
			last.start, last.end = at, at
		case last != nil:
			last.Output += line
			last.end = start + len(line)
		}
	}
	return commands
}

// Rewrite is the document with other outputs, one for each of its Commands.
func Rewrite(document string, outputs []string) string {
	var b strings.Builder
	at := 0
	for i, c := range Commands(document) {
		b.WriteString(document[at:c.start] + outputs[i])
		at = c.end
	}
	return b.String() + document[at:]
}
