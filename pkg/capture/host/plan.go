// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Knob is a setting of the kernel: a path below /proc/sys.
type Knob string

// The knobs. See core(5) and suid_dumpable in proc_sys_fs(5).
const (
	CorePattern   Knob = "kernel/core_pattern"
	CorePipeLimit Knob = "kernel/core_pipe_limit"
	SuidDumpable  Knob = "fs/suid_dumpable"
)

// Knobs are all of them in the order in which they are written: the pattern last, for it is what makes the others matter. A plan that was carried
// out to its end is told by the pattern from one that was not.
var Knobs = []Knob{CorePipeLimit, SuidDumpable, CorePattern}

// kernelDefaults are what the kernel starts with. They stand in for originals that nobody can know any more.
var kernelDefaults = Values{CorePattern: "core", CorePipeLimit: "0"}

// Values are settings by knob, as they are read: without the newline at the end. A knob that is not there is not managed, or not known.
type Values map[Knob]string

// Original is what the host had before us: the content of original.json.
type Original struct {
	// BootID is the boot that Values were read in.
	BootID string `json:"bootID"`
	Values Values `json:"values"`
	// Ours are the values that we have set in this boot, oldest first: how a number is told from the host's own.
	Ours map[Knob][]string `json:"ours"`
	// Restoring is true from the moment at which Values began to be put back.
	Restoring bool `json:"restoring,omitempty"`
	// Lost is true where our own pattern was found and nothing that said what was there before: Values are the kernel's defaults.
	Lost bool `json:"lost,omitempty"`
}

func (o *Original) set(k Knob, value string) bool { return slices.Contains(o.Ours[k], value) }

// Drift is a setting that was not as we had left it.
type Drift struct {
	Knob        Knob
	Found, Want string
}

func (d Drift) String() string { return fmt.Sprintf("%s is %q instead of %q", d.Knob, d.Found, d.Want) }

// ErrForbidden is wrapped where the host's administrator wants no dumps, and nobody forced us.
var ErrForbidden = errors.New("this host forbids core dumps")

// ErrSibling is wrapped where another installation of this software has the host's crashes.
var ErrSibling = errors.New("another installation takes the core dumps of this host")

// write is one setting to be written.
type write struct {
	knob  Knob
	value string
}

// state is all that a plan depends on.
type state struct {
	current     Values
	saved       *Original // nil where there is none
	bootID      string
	dir, socket string // ours, as the host names them
}

func (s *state) whose(pattern string) kind { return whose(pattern, s.dir, s.socket) }

// originals are the host's own values, as far as can be known. changed is true where they are not those saved.
func (s *state) originals() (o Original, changed bool) {
	mine := s.whose(s.current[CorePattern]) == ours
	switch {
	case s.saved == nil && mine:
		o = Original{BootID: s.bootID, Values: maps.Clone(s.current), Ours: map[Knob][]string{}, Lost: true}
		for k, value := range kernelDefaults {
			o.Values[k], o.Ours[k] = value, []string{s.current[k]}
		}
		return o, true
	case s.saved == nil, s.saved.BootID != s.bootID && !mine:
		// The first time here, or the host has booted: what it set while it did so is what it wants now.
		return Original{BootID: s.bootID, Values: maps.Clone(s.current)}, true
	case s.saved.BootID != s.bootID:
		// Somebody made our pattern last over a boot. What is beside it is ours as well, or the host's.
		return s.merged(), true
	case s.saved.Restoring && mine:
		o = clone(s.saved)
		o.Restoring = false
		return o, true
	case s.saved.Restoring:
		// The pattern is put back last, so we were gone, but for what was being put back as somebody else's pattern was there already.
		return s.merged(), true
	}
	return clone(s.saved), false
}

// merged are the values of now, with those saved where they are ours.
func (s *state) merged() Original {
	o := Original{BootID: s.bootID, Values: maps.Clone(s.current), Ours: s.saved.Ours, Lost: s.saved.Lost}
	for _, k := range Knobs {
		before, known := s.saved.Values[k]
		if known && (s.saved.set(k, s.current[k]) || k == CorePattern && s.whose(s.current[k]) == ours) {
			o.Values[k] = before
		}
	}
	return o
}

func clone(o *Original) Original {
	c := *o
	c.Values = maps.Clone(o.Values)
	c.Ours = map[Knob][]string{}
	for k, values := range o.Ours {
		c.Ours[k] = slices.Clone(values)
	}
	return c
}

// applying decides how want comes into force: which originals have to be saved before (save is false where they are saved as they are), and what is
// written then. drift are settings that we had set and that are different now.
func (s *state) applying(want Values, force bool) (o Original, save bool, writes []write, drift []Drift, err error) {
	found := s.current[CorePattern]
	if !force {
		o, _ := s.originals()
		switch {
		case s.whose(found) == sibling:
			return o, false, nil, nil, fmt.Errorf("%w: kernel.core_pattern is %q: uninstall that one first", ErrSibling, found)
		case s.whose(found) == foreign && Forbids(found):
			return o, false, nil, nil, fmt.Errorf("%w: kernel.core_pattern is %q, as hardening guides (DISA STIG, CIS) ask for", ErrForbidden, found)
		case Forbids(o.Values[CorePattern]):
			return o, false, nil, nil, fmt.Errorf("%w: kernel.core_pattern was %q before it was set with force", ErrForbidden, o.Values[CorePattern])
		}
	}
	o, save = s.originals()
	same := s.saved != nil && s.saved.BootID == s.bootID && !s.saved.Restoring
	if o.Ours == nil {
		o.Ours = map[Knob][]string{}
	}
	for _, k := range Knobs {
		value, managed := want[k]
		current, known := s.current[k]
		switch {
		case !known:
		case !managed && o.set(k, current):
			// It was managed by an earlier version or with other flags.
			if value, managed = o.Values[k], true; current != value {
				writes = append(writes, write{k, value})
			}
		case !managed:
		default:
			if !o.set(k, value) {
				o.Ours[k] = append(o.Ours[k], value)
				save = true
			}
			if current != value {
				writes = append(writes, write{k, value})
				if same && len(s.saved.Ours[k]) > 0 && !s.saved.set(k, current) && !(k == CorePattern && s.whose(current) == ours) {
					drift = append(drift, Drift{k, current, value})
				}
			}
		}
	}
	return o, save, writes, drift, nil
}

// restoring decides what is put back: only what is still ours.
func (s *state) restoring() (writes []write) {
	mine := s.whose(s.current[CorePattern]) == ours
	if s.saved == nil && !mine || s.saved != nil && s.saved.BootID != s.bootID && !mine {
		return nil
	}
	o, _ := s.originals()
	for _, k := range Knobs {
		current, before := s.current[k], o.Values[k]
		isOurs := o.set(k, current)
		if k == CorePattern {
			isOurs = mine
		}
		if _, known := o.Values[k]; known && isOurs && current != before {
			writes = append(writes, write{k, before})
		}
	}
	return writes
}
