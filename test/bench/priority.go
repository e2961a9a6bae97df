// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// highest is the priority at which everybody is measured who holds a process: what else runs on this machine then disturbs little, and nobody more than another.
const highest = -20

// preferHelper has the program in core_pattern run at the highest priority. That costs a shell's start, a millisecond or two, and leaves arguments and descriptors as they are.
func preferHelper(dir string) error {
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		return err
	}
	command, piped := strings.CutPrefix(strings.TrimSpace(string(pattern)), "|")
	if !piped {
		return nil
	}
	program, arguments, _ := strings.Cut(command, " ")
	script := filepath.Join(dir, "p")
	if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nexec /usr/bin/nice -n %d %s \"$@\"\n", highest, program), 0o700); err != nil {
		return err
	}
	return setSetting("core_pattern", strings.TrimSpace("|"+script+" "+arguments))
}

// preferSession sets the priority of this program's session, which counts among sessions where the kernel groups processes by them; see "The autogroup feature" in sched(7). What
// the kernel starts is in none.
func preferSession(priority int) error {
	err := os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(priority)), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// setPriority is for all threads of a process.
func setPriority(pid, priority int) error {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return err
	}
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		if err == nil {
			err = unix.Setpriority(unix.PRIO_PROCESS, tid, priority)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set the priority of thread %s: %w", t.Name(), err)
		}
	}
	return nil
}
