// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// stateVersion is that of the format of state files.
const stateVersion = 1

// maxState bounds what is read of a state file.
const maxState = 64 << 20

// header is the first line of a state file, in JSON. The lines behind it say in the order of time which bytes of the object have arrived
// ("+ <from> <to>") and which turned out to be bad ("- <from> <to>"). A line without its end was cut off by a kill, and
// does not count: the bytes are written before the line.
type header struct {
	Version int    `json:"version"`
	Object  string `json:"object"`
	ETag    string `json:"etag"`
	Size    int64  `json:"size"`
	SHA256  string `json:"sha256"`
}

// readState understands a state file about the object of h, and tells where its last whole line ends. What it does not understand, and what
// is about another object, is nothing.
func readState(r io.Reader, h header) (done spans, end int64, ok bool) {
	b := bufio.NewReader(io.LimitReader(r, maxState))
	line, err := b.ReadString('\n')
	var got header
	if err != nil || json.Unmarshal([]byte(line), &got) != nil || got != h {
		return nil, 0, false
	}
	for {
		end += int64(len(line))
		if line, err = b.ReadString('\n'); err != nil {
			return done, end, true
		}
		s, add, ok := parseLine(line, h.Size)
		switch {
		case !ok:
			return nil, 0, false
		case add:
			done = done.add(s)
		default:
			done = done.remove(s)
		}
	}
}

func parseLine(line string, size int64) (s span, add, ok bool) {
	f := strings.Fields(line)
	if len(f) != 3 || f[0] != "+" && f[0] != "-" {
		return span{}, false, false
	}
	from, err := strconv.ParseInt(f[1], 10, 64)
	to, err2 := strconv.ParseInt(f[2], 10, 64)
	if err != nil || err2 != nil || from < 0 || to <= from || to > size {
		return span{}, false, false
	}
	return span{from, to}, f[0] == "+", true
}

// openState reads what f says, or begins it anew. What it returns notes changes at the end of f; one at a time.
func openState(f *os.File, h header) (done spans, note func(add bool, s span) error, err error) {
	done, end, ok := readState(f, h)
	if err := f.Truncate(end); err != nil { // what a kill cut off, or all of it
		return nil, nil, err
	}
	write := func(text string) error {
		if _, err := f.WriteAt([]byte(text), end); err != nil {
			return err
		}
		end += int64(len(text))
		return nil
	}
	if !ok {
		first, err := json.Marshal(h)
		if err == nil {
			err = write(string(first) + "\n")
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return done, func(add bool, s span) error { return write(line(add, s)) }, nil
}

func line(add bool, s span) string {
	sign := "-"
	if add {
		sign = "+"
	}
	return fmt.Sprintf("%s %d %d\n", sign, s.from, s.to)
}
