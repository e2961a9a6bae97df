// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package host changes the settings of the host with which the kernel delivers core dumps, installs the program that it runs, and
// gives everything back as it was. What the host had before is kept in a directory on the host, so that it can be given back after a SIGKILL at any
// moment, after an upgrade, after a second installation on top of the first, and so that a value of our own is never mistaken for one of the host's.
package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture/initns"
)

// OriginalFile is the name of the file in the host's directory that says what the host had before.
const OriginalFile = "original.json"

// maxOriginal bounds what is read of OriginalFile.
const maxOriginal = 64 << 10

// Host is the host that we run on. Its methods exclude each other by a lock in the file system, also between processes.
type Host struct {
	// Dir is the directory for what has to be on the host, as we see it; its parent must exist. Nothing else may be kept in it.
	Dir string
	// HostDir is the path of the same directory on the host: what the kernel is told.
	HostDir string
	// Socket is the path on the host of the coredump socket; "" where mode socket is never used.
	Socket string
	// ProcSys is where /proc/sys of the host can be written: /proc/sys where it is not read-only, else a hostPath mount of it. User 0 needs no
	// capability for that.
	ProcSys string
	// Namespaces are those of the host's first process; see initns.Dir. The kernel takes the pattern of a socket from its mount namespace only.
	Namespaces string
}

// Report is what became of the settings.
type Report struct {
	// Original is what the host had before.
	Original Original
	// Written are the settings that were changed, with their new values.
	Written Values
	// Drift are settings that somebody else had changed since they were ours.
	Drift []Drift
}

// Original is what the host had before us, as far as can be known now; nothing is changed. It is what crashes that are not ours are forwarded to.
func (h *Host) Original() (Original, error) {
	s, err := h.state()
	if err != nil {
		return Original{}, err
	}
	o, _ := s.originals()
	return o, nil
}

// Apply brings want into force, and saves what the host has now before that if it is the host's own. It may be repeated at any time; what it then finds
// changed, and puts back, is the report's Drift. It returns an error that wraps ErrForbidden or ErrSibling, with nothing changed, where the host does not
// want us and force is false; and one that says so where the kernel did not take a value, with the pattern as it was.
func (h *Host) Apply(want Values, force bool) (Report, error) {
	var report Report
	if _, err := checked(want[CorePattern]); err != nil {
		return report, err
	}
	if err := mkdir(h.Dir); err != nil {
		return report, err
	}
	err := h.locked(func() error {
		s, err := h.state()
		if err != nil {
			return err
		}
		if whose(want[CorePattern], s.dir, s.socket) != ours {
			return fmt.Errorf("core_pattern %q is not one of this installation: it could not be told from the host's own", want[CorePattern])
		}
		original, save, writes, drift, err := s.applying(want, force)
		if err != nil {
			return err
		}
		report.Original, report.Drift = original, drift
		if save {
			if err := h.save(original); err != nil {
				return err
			}
		}
		report.Written, err = h.write(writes, s.current)
		return err
	})
	return report, err
}

// Restore puts back what the host had before, where what is there now is still ours, and forgets it. Where there is nothing of ours it does nothing.
func (h *Host) Restore() (Report, error) {
	var report Report
	if _, err := os.Stat(h.Dir); errors.Is(err, fs.ErrNotExist) {
		// Without its directory, all that can be left is the pattern.
		return h.restore()
	}
	err := h.locked(func() (err error) {
		report, err = h.restore()
		return err
	})
	return report, err
}

func (h *Host) restore() (Report, error) {
	s, err := h.state()
	if err != nil {
		return Report{}, err
	}
	report := Report{}
	report.Original, _ = s.originals()
	writes := s.restoring()
	if s.saved != nil && len(writes) > 0 && !s.saved.Restoring {
		begun := clone(&report.Original)
		begun.Restoring = true
		if err := h.save(begun); err != nil {
			return report, err
		}
	}
	if report.Written, err = h.write(writes, nil); err != nil {
		return report, err
	}
	return report, h.remove(OriginalFile)
}

// state reads all that there is to know.
func (h *Host) state() (*state, error) {
	s := &state{current: Values{}, dir: filepath.Clean(h.HostDir), socket: h.Socket}
	for _, k := range Knobs {
		value, err := h.read(k)
		if errors.Is(err, fs.ErrNotExist) && k != CorePattern {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.current[k] = value
	}
	id, err := h.read("kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	s.bootID = id
	s.saved, err = h.load()
	return s, err
}

// read gives a setting: the first line of what the kernel says.
func (h *Host) read(k Knob) (string, error) {
	b, err := os.ReadFile(filepath.Join(h.ProcSys, string(k)))
	if err != nil {
		return "", fmt.Errorf("read a setting of the host: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return line, nil
}

// write writes settings in order and reads each back. before is what to go back to where the kernel took something else.
func (h *Host) write(writes []write, before Values) (Values, error) {
	done := Values{}
	for _, w := range writes {
		if err := h.set(w.knob, w.value); err != nil {
			return done, err
		}
		got, err := h.read(w.knob)
		if err != nil {
			return done, err
		}
		if got != w.value {
			err := fmt.Errorf("the kernel did not take %s=%q: it is %q now", w.knob, w.value, got)
			if old, ok := before[w.knob]; ok {
				err = errors.Join(err, h.set(w.knob, old))
			}
			return done, err
		}
		done[w.knob] = w.value
	}
	return done, nil
}

func (h *Host) set(k Knob, value string) error {
	name := filepath.Join(h.ProcSys, string(k))
	write := func() error {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("open a setting of the host: %w", err)
		}
		defer f.Close()
		// One write(2): the kernel takes each as a whole new value.
		if _, err := f.WriteString(value + "\n"); err != nil {
			return fmt.Errorf("set %s to %q: %w", name, value, err)
		}
		return nil
	}
	err := write()
	if err == nil || k != CorePattern || !strings.HasPrefix(value, "@") || !errors.Is(err, unix.EINVAL) {
		return err
	}
	// EINVAL: not in the initial mount namespace. fs/coredump.c, proc_dostring_coredump.
	name = "/proc/sys/" + string(k)
	if err := initns.Do(h.Namespaces, write); err != nil {
		return fmt.Errorf("set core_pattern to a socket, in the host's mount namespace: %w", err)
	}
	return nil
}

// load gives what was saved, or nil. What cannot be understood counts as not there: see Original.Lost.
func (h *Host) load() (*Original, error) {
	f, err := os.OpenFile(filepath.Join(h.Dir, OriginalFile), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the host's original settings: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxOriginal))
	if err != nil {
		return nil, fmt.Errorf("read the host's original settings: %w", err)
	}
	o := &Original{}
	if json.Unmarshal(b, o) != nil || o.BootID == "" {
		return nil, nil
	}
	if _, known := o.Values[CorePattern]; !known {
		return nil, nil
	}
	return o, nil
}

func (h *Host) save(o Original) error {
	b, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the host's original settings: %w", err)
	}
	return h.put(OriginalFile, append(b, '\n'))
}
