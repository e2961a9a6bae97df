// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package podcopy puts a copy of a dump where its pod asks for it: into the container's own file system, at a path that a pod's annotation
// gives. Everything below the root of a container is hostile, and so is the annotation. No link is followed, no file is opened that exists, nothing
// is read, run or overwritten, and the copy is written with the rights of the crashed process and no others, so that a pod gets nothing
// that the process could not have written itself. File systems that do not answer are abandoned.
package podcopy

import (
	"fmt"
	"path"
	"strconv"
	"strings"
)

// Key is the annotation of a pod that gives the pattern, for example /data/core-%e-%p-%t.
const Key = "coredump.example.io/core-pattern"

// Values are what a pattern may name, as the container itself sees it; the letter is that of core(5).
type Values struct {
	PID, TID int64  // %p, %i: in the PID namespace of the process
	UID, GID int64  // %u, %g
	Signal   int32  // %s
	Time     int64  // %t: Unix seconds
	Comm     string // %e
	Exe      string // %E, and %f without directories: as the process named it
	Host     string // %h: the pod's
}

const (
	// maxPattern is longer than the kernel's 127 bytes, for volumes may be deep.
	maxPattern = 512
	// maxName is NAME_MAX, and maxValue bounds what one text adds to a name.
	maxName, maxValue = 255, 64

	allowedSpecifiers = "%e %f %E %h %t %p %i %s %u %g %%"
)

// Refusal is the error for what will not be done whatever happens. Its text is for people, printable and short.
type Refusal struct{ Problem string }

func (e *Refusal) Error() string { return e.Problem }

func refuse(format string, args ...any) error { return &Refusal{fmt.Sprintf(format, args...)} }

// Pattern is where copies go.
type Pattern struct {
	dir, name string
}

// ParsePattern understands the annotation. It fails with a *Refusal.
func ParsePattern(s string) (*Pattern, error) {
	switch {
	case s == "":
		return nil, refuse("the pattern is empty: must be an absolute path such as /data/core-%%e-%%p-%%t")
	case len(s) > maxPattern:
		return nil, refuse("the pattern is %d bytes long: at most %d are allowed", len(s), maxPattern)
	case strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) >= 0:
		return nil, refuse("the pattern has characters that are not printable ASCII: %s", quote(s))
	case s[0] == '|' || s[0] == '@':
		return nil, refuse("%s: a program or a socket is not allowed, must be an absolute path such as /data/core-%%e-%%p-%%t", quote(s))
	case s[0] != '/':
		return nil, refuse("%s is relative: must be an absolute path such as /data/core-%%e-%%p-%%t", quote(s))
	}
	dir, name := path.Split(s)
	if name == "" {
		return nil, refuse("%s names a directory: must end with the name of a file, such as core-%%e-%%p-%%t", quote(s))
	}
	for element := range strings.SplitSeq(s[1:], "/") {
		switch {
		case element == "" || element == "." || element == "..":
			return nil, refuse("%s has an empty element, . or ..: must be a plain path", quote(s))
		case len(element) > maxName:
			return nil, refuse("%s has an element of %d bytes: at most %d are allowed", quote(s), len(element), maxName)
		}
	}
	if strings.Contains(dir, "%") {
		return nil, refuse("%s has specifiers in the directory: they are allowed in the name of the file alone", quote(s))
	}
	for _, where := range []string{"/proc", "/sys", "/dev"} {
		if strings.HasPrefix(dir, where+"/") {
			return nil, refuse("%s is below %s: must be in a volume, or another directory of the container", quote(s), where)
		}
	}
	p := &Pattern{path.Clean(dir), name}
	_, err := p.expand(&Values{})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// expand gives the name of the file.
func (p *Pattern) expand(v *Values) (string, error) {
	var b strings.Builder
	for i := 0; i < len(p.name); i++ {
		if p.name[i] != '%' {
			b.WriteByte(p.name[i])
			continue
		}
		i++
		if i == len(p.name) {
			return "", refuse("%s ends with a single %%: allowed are %s", quote(p.name), allowedSpecifiers)
		}
		switch c := p.name[i]; c {
		case '%':
			b.WriteByte('%')
		case 'e':
			b.WriteString(escape(v.Comm))
		case 'f':
			b.WriteString(escape(path.Base(v.Exe)))
		case 'E':
			b.WriteString(escape(v.Exe))
		case 'h':
			b.WriteString(escape(v.Host))
		case 't':
			b.WriteString(strconv.FormatInt(v.Time, 10))
		case 'p':
			b.WriteString(strconv.FormatInt(v.PID, 10))
		case 'i':
			b.WriteString(strconv.FormatInt(v.TID, 10))
		case 's':
			b.WriteString(strconv.FormatInt(int64(v.Signal), 10))
		case 'u':
			b.WriteString(strconv.FormatInt(v.UID, 10))
		case 'g':
			b.WriteString(strconv.FormatInt(v.GID, 10))
		default:
			return "", refuse("%s has %%%c: allowed are %s", quote(p.name), c, allowedSpecifiers)
		}
	}
	name := b.String()
	name = name[:min(len(name), maxName)]
	if strings.Trim(name, ".") == "" {
		return "", refuse("%s makes the name %s: must make the name of a file", quote(p.name), quote(name))
	}
	return name, nil
}

// escape makes a text that a process chose a part of a name: slashes become exclamation marks, as in the kernel, also dots where there is nothing
// else; what is not printable, or nothing at all, becomes an underscore.
func escape(s string) string {
	if s == "" {
		return "_"
	}
	dots := strings.Trim(s, ".") == ""
	b := []byte(s[:min(len(s), maxValue)])
	for i, c := range b {
		switch {
		case c == '/' || dots:
			b[i] = '!'
		case c <= ' ' || c > '~':
			b[i] = '_'
		}
	}
	return string(b)
}

// quote shows foreign text: printable and short.
func quote(s string) string {
	const most = 128
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "..."
	}
	return strconv.QuoteToASCII(s)
}
