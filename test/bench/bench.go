// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"example.io/coredump/test/cluster"
)

// bench is what all benchmarks have in common: the core, the S3 server, and a directory with everything.
type bench struct {
	dir string
	// core is the file that is uploaded, once needCore has made it, and size its length.
	core string
	size int64
	// largeSize is the length of the core that is downloaded in all the ways of large.
	largeSize int64
	// crasher is the program that crashes, once needCrasher has built it.
	crasher string
	bin     string
	assets  string
	store   *cluster.Store
}

// round has the measurements of one round: what two benchmarks need is measured once.
type round struct {
	*bench
	uploads     map[string]upload
	downloads   *download
	holds       map[string]hold
	tinies      *tiny
	listed      map[int]lists
	larges      *large
	largeFailed bool
}

// setUp starts the S3 server. What it gives has to be cleaned up, also after an error.
func setUp(ctx context.Context, parent string, size, largeSize int64) (b *bench, err error) {
	b = &bench{size: size, largeSize: largeSize}
	env := map[string]string{"COREDUMP_BIN": "", "COREDUMP_CONTROLPLANE": "", "COREDUMP_S3SERVER": ""}
	for name := range env {
		if env[name] = os.Getenv(name); env[name] == "" {
			return b, fmt.Errorf("%s is not set: use make bench", name)
		}
	}
	b.bin, b.assets = env["COREDUMP_BIN"], env["COREDUMP_CONTROLPLANE"]
	// The name is for crash.WithSettings, which has to know a pattern of ours.
	if b.dir, err = os.MkdirTemp(parent, "coredump-test-b-"); err != nil {
		return b, err
	}
	b.store, err = cluster.StartStore(ctx, b.dir, env["COREDUMP_S3SERVER"], filepath.Join("artifacts", "s3", "bucket-policy.json"))
	return b, err
}

// needCore makes the core, once.
func (b *bench) needCore() error {
	if b.core != "" {
		return nil
	}
	if err := checkRoom(b.dir, 5*b.size); err != nil {
		return err
	}
	core := filepath.Join(b.dir, "core")
	progress("making a core of %d MiB", b.size>>20)
	if err := makeCore(core, b.size); err != nil {
		return fmt.Errorf("make the core: %w", err)
	}
	b.core = core
	return nil
}

// checkRoom says so beforehand where the disk is too small: for a core, the copy of it that nodehandler may delete, what
// the store keeps of the parts and of the object, and downloads.
func checkRoom(dir string, need int64) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("statfs %s: %w", dir, err)
	}
	free := int64(fs.Bavail) * fs.Bsize
	if free < need {
		return fmt.Errorf("%s has %d MiB free, %d MiB are needed: set TMPDIR to a directory with more room, or --size and --large-size to less", dir, free>>20, need>>20)
	}
	return nil
}

func (b *bench) cleanUp() error {
	if b.store != nil {
		b.store.Kill()
	}
	if b.dir == "" {
		return nil
	}
	return os.RemoveAll(b.dir)
}

// emptyStore removes all objects, behind the server's back: what one upload left must not weigh on the next.
func (b *bench) emptyStore() error {
	entries, err := os.ReadDir(b.store.Data())
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(b.store.Data(), e.Name())))
	}
	syscall.Sync()
	return err
}

// peakMiB is the largest resident set that a process has had so far: VmHWM, see proc_pid_status(5).
func peakMiB(pid int) (float64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("%s has no VmHWM", f.Name())
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
