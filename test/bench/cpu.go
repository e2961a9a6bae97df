// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// clockTick is USER_HZ.
const clockTick = time.Second / 100

// cpuOf is the CPU time of a process so far, in user and in kernel mode: fields 14 and 15 of proc_pid_stat(5).
func cpuOf(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	var ticks int64
	for _, field := range fields[14-3 : 16-3] {
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// watchInterval is how often watchCPU looks: what a process uses after the last look is not counted.
const watchInterval = 10 * time.Millisecond

// watchCPU waits for a process of a program in dir, which the kernel starts, so that nobody waits for it, and gives its CPU time at the end.
func watchCPU(ctx context.Context, dir string) (used time.Duration) {
	pid := 0
	for ; ctx.Err() == nil; time.Sleep(watchInterval) {
		if pid == 0 {
			pid = runs(dir)
			continue
		}
		now, err := cpuOf(pid)
		if err != nil {
			return used
		}
		used = max(used, now)
	}
	return used
}

func runs(dir string) int {
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		if exe, _ := os.Readlink(p + "/exe"); strings.HasPrefix(exe, dir+"/") {
			pid, _ := strconv.Atoi(filepath.Base(p))
			return pid
		}
	}
	return 0
}
