// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Specifiers are those of core(5) that corepipe gets, one argument each, in this order, in core_pattern behind its own path. They are all there are: what the
// host had before us may want any of them. Since Linux 5.3 the kernel splits the pattern before it
// expands it, so a name with blanks stays one argument, and a specifier that a kernel does not know is an empty one.
const Specifiers = "%P %p %I %i %F %u %g %s %t %d %c %C %h %f %e %E"

const (
	// maxComm is TASK_COMM_LEN with room for future kernels, maxPath PATH_MAX, maxHost the kernel's limit of a node name, all in bytes.
	maxComm = 64
	maxPath = 4096
	maxHost = 65
)

// Arguments are what the kernel told corepipe of a crash.
type Arguments struct {
	HostPID, PID int64 // %P %p
	HostTID, TID int64 // %I %i
	PIDFD        int   // %F; -1 where the kernel does not give one
	UID, GID     int64 // %u %g
	Signal       int32 // %s
	Time         int64 // %t, Unix seconds
	Dumpable     int32 // %d
	CoreLimit    int64 // %c; -1: none
	Comm         string
	values       map[byte]string
}

// Value is what a specifier, named by its letter, expands to; "" where the kernel did not know it.
func (a *Arguments) Value(letter byte) string { return a.values[letter] }

// ParseArguments reads what the kernel passed behind the name of the program. Numbers are the kernel's own and must be right; texts are the crashed
// process's, and are only bounded.
func ParseArguments(args []string) (*Arguments, error) {
	letters := strings.Fields(Specifiers)
	if len(args) != len(letters) {
		return nil, fmt.Errorf("%d arguments: must be the %d of %q", len(args), len(letters), Specifiers)
	}
	a := &Arguments{PIDFD: -1, values: make(map[byte]string, len(args))}
	bounds := map[byte]int{'e': maxComm, 'f': maxPath, 'E': maxPath, 'h': maxHost}
	for i, l := range letters {
		v := args[i]
		if limit, text := bounds[l[1]]; text {
			v = v[:min(len(v), limit)]
		} else if len(v) > 20 {
			return nil, fmt.Errorf("%s is %d bytes long: must be a number", l, len(v))
		}
		a.values[l[1]] = v
	}
	a.Comm = a.values['e']
	p := numbers{values: a.values}
	a.HostPID, a.PID = p.number('P', true, 1, math.MaxInt32), p.number('p', false, 0, math.MaxInt32)
	a.HostTID, a.TID = p.number('I', false, 0, math.MaxInt32), p.number('i', false, 0, math.MaxInt32)
	a.UID, a.GID = p.number('u', true, 0, math.MaxUint32), p.number('g', true, 0, math.MaxUint32)
	a.Signal = int32(p.number('s', true, 0, 128))
	a.Time = p.number('t', true, 1, 1<<33)
	a.Dumpable = int32(p.number('d', false, 0, 2))
	a.CoreLimit = coreLimit(a.values['c'])
	if a.values['F'] != "" {
		a.PIDFD = int(p.number('F', true, 3, 1<<20))
	}
	if p.err != nil {
		return nil, p.err
	}
	return a, nil
}

// numbers collects the first error.
type numbers struct {
	values map[byte]string
	err    error
}

func (n *numbers) number(letter byte, needed bool, least, most int64) int64 {
	v := n.values[letter]
	if v == "" && !needed {
		return 0
	}
	i, err := strconv.ParseInt(v, 10, 64)
	if (err != nil || i < least || i > most) && n.err == nil {
		n.err = fmt.Errorf("%%%c is %q: must be a number from %d to %d", letter, v, least, most)
	}
	return i
}

// coreLimit reads RLIMIT_CORE, which is unsigned; RLIM_INFINITY is the largest number.
func coreLimit(v string) int64 {
	u, err := strconv.ParseUint(v, 10, 64)
	switch {
	case err != nil:
		return 0
	case u > math.MaxInt64:
		return -1
	}
	return int64(u)
}
