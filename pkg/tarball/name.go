// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package tarball

import (
	"fmt"
	"path"
	"strings"
	"time"
)

// maxExecutable bounds the part of a name that comes from the crashed process, in bytes.
const maxExecutable = 64

// Core is what the name of a core in an archive is made of. Container and ID must be valid components of a
// key; Executable may be anything.
type Core struct {
	Container  string
	Executable string
	Time       time.Time
	PID        int64
	Signal     int32
	ID         string
}

// Names gives each core its name, <container>/core-<exe>-<unix time>-<pid>-<signal>, the default core_pattern of the
// project. Names are relative, have no component "." or "..", consist of printable ASCII, and are different
// from each other: cores that would have the same name get -<id> at their ends. Cores must differ in Container or ID.
func Names(cores []Core) []string {
	names := make([]string, len(cores))
	seen := make(map[string]int, len(cores))
	for i, c := range cores {
		names[i] = c.name()
		seen[names[i]]++
	}
	for i, c := range cores {
		if seen[names[i]] > 1 {
			names[i] += "-" + sanitise(c.ID)
		}
	}
	return names
}

func (c Core) name() string {
	return fmt.Sprintf("%s/core-%s-%d-%d-%d", sanitise(c.Container), executable(c.Executable), c.Time.Unix(), c.PID, c.Signal)
}

// executable is the last component of the program's path, made harmless.
func executable(s string) string {
	s = path.Base(s)
	if s == "." || s == "/" { // what path.Base makes of nothing
		s = "unknown"
	}
	return sanitise(s[:min(len(s), maxExecutable)])
}

// sanitise replaces every byte that could mean something to a shell, a terminal or a file system. The result is never
// a path: callers put it behind a prefix or have checked that it is a DNS label.
func sanitise(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '_'
	}, s)
}
