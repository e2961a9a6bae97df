// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/capture/kerneltest"
	"example.io/coredump/pkg/cgroup"
	"example.io/coredump/pkg/spool"
)

// slowName is a program that becomes corepipe when it is let: on a busy host there is time between a crash and corepipe's first look.
const slowName = "slow"

func slowly() {
	dir := filepath.Dir(os.Args[0])
	for {
		if _, err := os.Stat(filepath.Join(dir, "go")); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	name := filepath.Join(dir, corepipeName)
	panic(syscall.Exec(name, append([]string{name}, os.Args[1:]...), nil))
}

// slow makes corepipe wait for its first look until let is called.
func (h *host) slow(specifiers string) (let func()) {
	h.t.Helper()
	program, err := os.ReadFile("/proc/self/exe")
	must(h.t, err)
	must(h.t, os.WriteFile(filepath.Join(h.dir, slowName), program, 0o700))
	kerneltest.Set(h.t, "kernel/core_pattern", "|"+filepath.Join(h.dir, slowName)+" "+specifiers)
	let = func() { must(h.t, os.WriteFile(filepath.Join(h.dir, "go"), nil, 0o600)) }
	h.t.Cleanup(let)
	return let
}

// withID starts a program in a cgroup with a process id that is free, if nobody is quicker.
func withID(t *testing.T, pid int, cgroup string) bool {
	t.Helper()
	dir, err := os.Open(cgroup)
	must(t, err)
	defer dir.Close()
	for range 50 {
		cmd := exec.Command("sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
		if os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0) != nil {
			t.Skip("NOT TESTED: this kernel lets nobody choose process ids")
		}
		must(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		if cmd.Process.Pid == pid {
			return true
		}
		if unix.Kill(pid, 0) == nil {
			return false // somebody else has it
		}
	}
	return false
}

// recycled lets a process crash, kills it, and gives its id to a process of another pod before corepipe looks.
func recycled(t *testing.T, specifiers string) *spool.Meta {
	t.Helper()
	h := newHost(t, "16", "", nil)
	other := filepath.Join(filepath.Dir(filepath.Dir(h.cgroup)), "pod11111111-2222-3333-4444-"+fmt.Sprintf("%012x", os.Getpid()), strings.Repeat("d0", 32))
	must(t, os.MkdirAll(other, 0o755))
	t.Cleanup(func() { _, _ = os.Remove(other), os.Remove(filepath.Dir(other)) })
	let := h.slow(specifiers)
	v := h.start("random 1", true)
	pid := v.cmd.Process.Pid
	v.crash()
	h.eventually("the kernel has started its helper", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		return err == nil && bytes.Contains(b, []byte("CoreDumping:\t1"))
	})
	must(t, v.cmd.Process.Kill())
	v.wait()
	if !withID(t, pid, other) {
		t.Skip("NOT TESTED: somebody else got the id")
	}
	let()
	_, m, _ := h.entry()
	if m.HostPID != int64(pid) {
		t.Errorf("%+v", m)
	}
	return m
}

func TestP1_AKilledProcessWhoseIdIsAnotherPodsByThenIsNobody(t *testing.T) {
	if m := recycled(t, capture.Specifiers); m.Verified || m.Cgroup != "" || m.Exe != "" || m.StartTime != 0 {
		t.Errorf("%+v", m)
	}
}

// On older kernels, which give no pidfd.
func TestP1_SoItIsWithoutThePidfdOfTheKernel(t *testing.T) {
	if m := recycled(t, strings.Replace(capture.Specifiers, "%F", "%x", 1)); m.Verified {
		t.Errorf("%+v", m)
	}
}

func TestP2_WhatAProcessCallsItselfDoesNotMatter(t *testing.T) {
	const victim = "pod11111111-2222-3333-4444-555555555555"
	h := newHost(t, "16", "", nil)
	exe, err := os.Executable()
	must(t, err)
	h.program = filepath.Join(h.dir, victim) // its name becomes its comm
	must(t, os.Symlink(exe, h.program))
	v := h.startWith("random 1", h.cgroup, "POD_NAME="+victim, "HOSTNAME="+victim)
	v.crash()
	v.wait()
	_, m, _ := h.entry()
	if id, err := cgroup.Parse(m.Cgroup); err != nil || !strings.Contains(h.cgroup, id.PodUID) || !m.Verified {
		t.Errorf("%+v, %v, %v", m, id, err)
	}
	if !strings.HasPrefix(m.Comm, "pod1111") {
		t.Errorf("it is called %q", m.Comm)
	}
}

func TestP3_ACgroupThatAPodMadeItselfDoesNotMatter(t *testing.T) {
	h := newHost(t, "16", "", nil)
	forged := h.cgroup
	for _, name := range []string{"kubepods", "pod11111111-2222-3333-4444-555555555555", strings.Repeat("d0", 32)} {
		forged = filepath.Join(forged, name)
		must(t, os.Mkdir(forged, 0o755))
		t.Cleanup(func() { os.Remove(forged); forged = filepath.Dir(forged) })
	}
	v := h.startWith("random 1", forged)
	v.crash()
	v.wait()
	_, m, _ := h.entry()
	id, err := cgroup.Parse(m.Cgroup)
	if err != nil || !strings.Contains(h.cgroup, "pod"+id.PodUID+"/"+id.ContainerID) || !m.Verified {
		t.Errorf("%+v, %v, %v", m, id, err)
	}
}

// The kernel ends the dump of a process whose cgroup is frozen; nothing of ours waits for it.
func TestP7_AProcessThatIsFrozenWhileItDumpsIsLetGoAndItsDumpIsMarked(t *testing.T) {
	h := newHost(t, "16", "", func(c *capture.Config) {
		c.AnswerTimeout, c.Deadline, c.StallTimeout = capture.Duration(patience), capture.Duration(patience), capture.Duration(200*time.Millisecond)
	})
	j, _ := h.nodeHandler(capture.Verdict{Action: capture.Keep})
	v := h.start("random 64", true)
	v.crash()
	<-j.asked
	freeze := filepath.Join(h.cgroup, "cgroup.freeze")
	if err := os.WriteFile(freeze, []byte("1"), 0); err != nil {
		t.Skip("NOT TESTED: ", err)
	}
	t.Cleanup(func() { _ = os.WriteFile(freeze, []byte("0"), 0) })
	close(j.let)
	_, m, o := h.entry()
	whole := o.Truncated == "" && o.Size == o.PromisedSize
	marked := o.Truncated != "" && o.Size < o.PromisedSize
	if !whole && !marked || !m.Verified {
		t.Errorf("%+v", o)
	}
	t.Logf("%d of %d bytes, %q", o.Size, o.PromisedSize, o.Truncated)
	must(t, os.WriteFile(freeze, []byte("0"), 0))
	v.wait()
}

func TestP15_WhereMemoryRunsOutCorepipeGoesBeforeThePods(t *testing.T) {
	h := newHost(t, "16", "", func(c *capture.Config) {
		c.AnswerTimeout, c.Deadline = capture.Duration(patience), capture.Duration(patience)
	})
	j, _ := h.nodeHandler(capture.Verdict{Action: capture.Keep})
	v := h.start("random 1", true)
	v.crash()
	<-j.asked
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", h.helper()))
	close(j.let)
	v.wait()
	h.entry()
	if n, _ := strconv.Atoi(strings.TrimSpace(string(b))); err != nil || n < 500 {
		t.Errorf("oom_score_adj is %q, %v", b, err)
	}
}

// Its own crash is a tenant's to hide: the kernel takes a limit of 1 for that, and a limit of 0 is no obstacle to a program that gets dumps.
func TestP16_OnlyALimitOfOneHidesACrash(t *testing.T) {
	for limit, want := range map[uint64]bool{0: true, 1: false} {
		t.Run(strconv.FormatUint(limit, 10), func(t *testing.T) {
			h := newHost(t, "16", "", nil)
			v := h.start("random 1", true)
			must(t, unix.Prlimit(v.cmd.Process.Pid, unix.RLIMIT_CORE, &unix.Rlimit{Cur: limit, Max: limit}, nil))
			v.crash()
			v.wait()
			if !want {
				h.eventually("corepipe has ended", func() bool { return h.helper() == 0 })
				if u, err := h.spool.Usage(); err != nil || u.Entries != 0 {
					t.Errorf("%+v, %v", u, err)
				}
				return
			}
			if _, m, o := h.entry(); o.Size != o.PromisedSize || m.CoreLimit != int64(limit) {
				t.Errorf("%+v %+v", m, o)
			}
		})
	}
}

// One of a storm that has had its dumps costs no byte of its memory: the kernel meets a closed pipe.
func TestP5_ADumpOfAStormIsDroppedBeforeItIsRead(t *testing.T) {
	h := newHost(t, "16", "", func(c *capture.Config) {
		c.AnswerTimeout, c.Deadline = capture.Duration(patience), capture.Duration(patience)
	})
	j, _ := h.nodeHandler(capture.Verdict{Action: capture.Drop, Reason: spool.ReasonRateLimit})
	close(j.let)
	v := h.start("random 64", true)
	v.crash()
	v.wait()
	e, _, o := h.entry()
	if o.Suppressed != spool.ReasonRateLimit || o.FirstByteMicros != 0 {
		t.Errorf("%+v", o)
	}
	if _, err := e.OpenCore(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a core: %v", err)
	}
}
