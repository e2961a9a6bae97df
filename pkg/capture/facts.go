// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/spool"
)

// Facts are the files of /proc/pid that WriteFacts knows. The last two may hold secrets, and are read from the process's own memory, which the
// process may have arranged to be slow (userfaultfd, FUSE).
var Facts = []string{"limits", "status", "maps", "mountinfo", "fd", "cmdline", "environ"}

// DefaultFacts are those that are taken where nothing else is said.
var DefaultFacts = []string{"limits", "status", "maps", "mountinfo", "fd"}

const (
	// maxFact bounds one file: maps of a process with 20,000 mappings.
	maxFact = 2 << 20
	// maxFDs bounds the open files that are listed.
	maxFDs = 1024
)

// WriteFacts writes the named facts of a process into an entry, as context/proc/<name>, each bounded. Of the environment it writes the names of the variables and,
// only where environValues is true, what is in them. It goes on after errors, and returns the first.
func WriteFacts(e *spool.Entry, p *Process, names []string, environValues bool) error {
	var first error
	for _, name := range names {
		if !slices.Contains(Facts, name) {
			continue
		}
		if err := writeFact(e, p, name, environValues); err != nil && first == nil {
			first = fmt.Errorf("read %s of the process: %w", name, err)
		}
	}
	return first
}

func writeFact(e *spool.Entry, p *Process, name string, environValues bool) error {
	to := spool.ContextDir + "/proc/" + name
	switch name {
	case "fd":
		b, err := p.openFiles()
		if err != nil {
			return err
		}
		return e.WriteFile(to, b)
	case "environ":
		b, err := p.Read(name, maxFact/16)
		if err != nil {
			return err
		}
		if !environValues {
			b = redact(b)
		}
		return e.WriteFile(to, b)
	}
	from, err := openAt(p.proc, name)
	if err != nil {
		return err
	}
	defer from.Close()
	f, err := e.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyBuffer(plainWriter{f}, io.LimitReader(from, maxFact), make([]byte, 32<<10))
	return err
}

// plainWriter hides the ReadFrom of a file, which would try system calls that files in /proc do not have.
type plainWriter struct{ io.Writer }

// openFiles lists the open files: number and what it is, quoted, for names are anybody's.
func (p *Process) openFiles() ([]byte, error) {
	dir, err := unix.Openat(p.proc, "fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d := os.NewFile(uintptr(dir), "fd")
	defer d.Close()
	names, err := d.Readdirnames(maxFDs)
	if err != nil && err != io.EOF {
		return nil, err
	}
	var b bytes.Buffer
	for _, name := range names {
		target, err := p.link("fd/" + name)
		if err == nil {
			fmt.Fprintf(&b, "%s %q\n", name, target)
		}
	}
	return b.Bytes(), nil
}

// redact leaves the names of an environment. What has no name is left out.
func redact(environ []byte) []byte {
	var b strings.Builder
	for v := range bytes.SplitSeq(environ, []byte{0}) {
		if name, _, ok := bytes.Cut(v, []byte{'='}); ok {
			b.Write(name)
			b.WriteString("=<redacted>\x00")
		}
	}
	return []byte(b.String())
}
