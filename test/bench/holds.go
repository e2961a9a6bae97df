// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/test/crash"
)

const (
	// heldMiB is how much memory the process has that crashes, all of it dirty.
	heldMiB = 1024
	// tinyMiB is that of the process by which the start of corepipe is measured.
	tinyMiB = 1
	// tinyCrashes is how often that crashes in a round.
	tinyCrashes = 11
	// holdPatience bounds one crash with all that comes after it.
	holdPatience = 5 * time.Minute
)

// hold is how one crash went.
type hold struct {
	// held is the time from the instruction that crashed to the moment the process could be reaped.
	held time.Duration
	// cpu is what the kernel needed to write the dump.
	cpu time.Duration
}

// hold lets a process with 1 GiB of random pages crash, once a round for each way.
func (r *round) hold(ctx context.Context, name string) (h hold, err error) {
	if h, ok := r.holds[name]; ok {
		return h, nil
	}
	err = r.withWay(ctx, name, func(ctx context.Context, w way) error {
		if err := errors.Join(preferHelper(filepath.Join(r.dir, "w")), w.prefer(highest), preferSession(highest)); err != nil {
			return err
		}
		h, err = r.crash(ctx, heldMiB, "")
		if err := errors.Join(err, w.prefer(0), preferSession(0)); err != nil {
			return err
		}
		return w.finished(ctx, 1)
	})
	if err != nil {
		return h, err
	}
	progress("%-18s held %7.3fs, %.3fs CPU of the kernel", name, h.held.Seconds(), h.cpu.Seconds())
	if r.holds == nil {
		r.holds = map[string]hold{}
	}
	r.holds[name] = h
	return h, nil
}

// withWay has the kernel deliver crashes that way while f runs. Nobody else is told of a crash then, and nothing is being written to the disk when f begins.
func (b *bench) withWay(ctx context.Context, name string, f func(context.Context, way) error) error {
	if err := b.needCrasher(); err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "w") // short: a core_pattern has 127 bytes
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return crash.WithSettings(func() (err error) { // which may have waited for others
		ctx, cancel := context.WithTimeoutCause(ctx, holdPatience, fmt.Errorf("not over within %s", holdPatience))
		defer cancel()
		w, err := b.startWay(ctx, name, dir)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.stop()) }()
		syscall.Sync()
		return f(ctx, w)
	})
}

// crasherSource is a C program: nothing but the kernel and its memory is in the way.
const crasherSource = "test/bench/crasher/crasher.c"

func (b *bench) needCrasher() error {
	if b.crasher != "" {
		return nil
	}
	program := filepath.Join(b.dir, "crasher")
	out, err := exec.Command("gcc", "-O2", "-o", program, crasherSource).CombinedOutput()
	if err != nil {
		return fmt.Errorf("gcc %s: %w: %s", crasherSource, err, out)
	}
	b.crasher = program
	return nil
}

// crash runs a process in a cgroup such as a pod's container has. Its memory is filled with random pages or with the file.
func (b *bench) crash(ctx context.Context, mib int, file string) (h hold, err error) {
	cgroup, remove, err := podCgroup()
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	cmd := exec.CommandContext(ctx, "/usr/bin/nice", "-n", fmt.Sprint(highest), b.crasher, fmt.Sprint(mib))
	if file != "" {
		cmd.Args = append(cmd.Args, file)
	}
	cmd.Dir = b.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	out, err := cmd.Output()
	var held, cpu int64
	if err == nil {
		_, err = fmt.Sscan(string(out), &held, &cpu)
	}
	if err != nil {
		return h, fmt.Errorf("the process that crashes: %w", err)
	}
	return hold{time.Duration(held) * time.Microsecond, time.Duration(cpu) * time.Microsecond}, nil
}

// podCgroup makes a cgroup, which remove removes.
func podCgroup() (dir *os.File, remove func() error, err error) {
	root := "/sys/fs/cgroup"
	var fs unix.Statfs_t
	if unix.Statfs(root, &fs) != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		root += "/unified"
		if unix.Statfs(root, &fs) != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
			return nil, nil, errors.New("no cgroup v2 here")
		}
	}
	names := []string{"kubepods", "pod" + podUID, containerID}
	var made []string
	for i := range names {
		d := filepath.Join(append([]string{root}, names[:i+1]...)...)
		switch err := os.Mkdir(d, 0o755); {
		case err == nil:
			made = append([]string{d}, made...)
		case !os.IsExist(err):
			return nil, nil, err
		}
	}
	dir, err = os.Open(filepath.Join(append([]string{root}, names...)...))
	return dir, func() error {
		errs := []error{dir.Close()}
		for _, d := range made {
			errs = append(errs, os.Remove(d))
		}
		return errors.Join(errs...)
	}, err
}

func holdTime(name string) func(context.Context, *round) (float64, error) {
	return func(ctx context.Context, r *round) (float64, error) {
		h, err := r.hold(ctx, name)
		return float64(h.held.Microseconds()) / 1000, err
	}
}

// holdRatio is how much longer the first way holds than the second, of the same round.
func holdRatio(first, second string) func(context.Context, *round) (float64, error) {
	return func(ctx context.Context, r *round) (float64, error) {
		a, err := r.hold(ctx, first)
		if err != nil {
			return 0, err
		}
		b, err := r.hold(ctx, second)
		return a.held.Seconds() / b.held.Seconds(), err
	}
}

// tiny is how crashes of a tiny process went: medians, in milliseconds.
type tiny struct {
	// firstByte is the time from the beginning of corepipe's main to the first byte: it has found out about the process and asked the node handler by then.
	firstByte float64
	// held is seen from outside: it includes that the kernel starts corepipe, and all that there is to dump.
	held float64
}

// tiny lets a tiny process crash several times.
func (r *round) tiny(ctx context.Context) (t tiny, err error) {
	if r.tinies != nil {
		return *r.tinies, nil
	}
	var first, held []float64
	err = r.withWay(ctx, wayPipe, func(ctx context.Context, w way) error {
		ours := w.(*nodeHandler)
		for n := range tinyCrashes {
			outcome := ours.watchOutcome(ctx)
			h, err := r.crash(ctx, tinyMiB, "")
			if err != nil {
				return err
			}
			o := <-outcome
			if o.err != nil {
				return o.err
			}
			if !o.Answered {
				return errors.New("the node handler did not answer in time")
			}
			if err := w.finished(ctx, n+1); err != nil {
				return err
			}
			held = append(held, float64(h.held.Microseconds())/1000)
			first = append(first, float64(o.FirstByteMicros)/1000)
		}
		return nil
	})
	if err != nil {
		return t, err
	}
	slices.Sort(held)
	slices.Sort(first)
	progress("%d crashes of %d MiB: first byte after %.1f ms to %.1f ms, held %.1f ms to %.1f ms", len(held), tinyMiB, first[0], first[len(first)-1], held[0], held[len(held)-1])
	r.tinies = &tiny{first[len(first)/2], held[len(held)/2]}
	return *r.tinies, nil
}

// cpuPerGiB is what a dump costs in all, in seconds: the kernel that writes it, corepipe that takes it, the node handler that compresses and uploads
// it. Its memory is of all kinds of pages (see writeCore), for random ones do not compress.
func (r *round) cpuPerGiB(ctx context.Context) (seconds float64, err error) {
	memory := filepath.Join(r.dir, "memory")
	if err := makeCore(memory, heldMiB<<20); err != nil {
		return 0, err
	}
	defer os.Remove(memory)
	err = r.withWay(ctx, wayPipe, func(ctx context.Context, w way) error {
		ours := w.(*nodeHandler)
		before, err := cpuOf(ours.process.PID())
		if err != nil {
			return err
		}
		watching, stop := context.WithCancel(ctx)
		defer stop()
		taken := make(chan time.Duration)
		go func() { taken <- watchCPU(watching, ours.hostDir) }()
		h, err := r.crash(ctx, heldMiB, memory)
		if err == nil {
			err = w.finished(ctx, 1)
		}
		stop()
		corepipe := <-taken
		if err != nil {
			return err
		}
		after, err := cpuOf(ours.process.PID())
		if err != nil {
			return err
		}
		if corepipe == 0 {
			return errors.New("corepipe was not seen")
		}
		progress("CPU of the kernel %.2fs, of corepipe %.2fs, of the node handler %.2fs", h.cpu.Seconds(), corepipe.Seconds(), (after - before).Seconds())
		seconds = (h.cpu + corepipe + after - before).Seconds() / (heldMiB / 1024)
		return nil
	})
	return seconds, err
}
