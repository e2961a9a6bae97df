// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/component-base/cli"

	"example.io/coredump/pkg/corefile/corefiletest"
	"example.io/coredump/pkg/dumpdir"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/buckets"
)

// patience is how long tests wait for what must happen. It is never waited for in vain when they pass.
const patience = 2 * time.Minute

// asNodeHandler makes the test binary be the program.
const asNodeHandler = "COREDUMP_TEST_BE_NODEHANDLER"

func TestMain(m *testing.M) {
	if os.Getenv(asNodeHandler) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	os.Exit(cli.Run(NewCommand(ctx)))
}

// handler is the program, as a process.
type handler struct {
	cmd    *exec.Cmd
	output syncBuffer
	done   chan struct{}
	err    error
}

// spawn starts the program on the directory. It is killed at the end of the test.
func spawn(t *testing.T, env []string, args ...string) *handler {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	h := &handler{cmd: exec.Command(exe, append([]string{"--capture=file", "--kubernetes=off", "--listen-address=", "--core-name-template=core.%p", "--node-name=n1"}, args...)...), done: make(chan struct{})}
	h.cmd.Env = append(append(os.Environ(), asNodeHandler+"=1", "COREDUMP_STORE="), env...)
	h.cmd.Stdout, h.cmd.Stderr = &h.output, &h.output
	must(t, h.cmd.Start())
	go func() { defer close(h.done); h.err = h.cmd.Wait() }()
	t.Cleanup(h.kill)
	return h
}

func (h *handler) kill() {
	_ = h.cmd.Process.Kill()
	<-h.done
}

// terminate asks the program to end, and gives how it did.
func (h *handler) terminate(t *testing.T) error {
	t.Helper()
	must(t, h.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-h.done:
		return h.err
	case <-time.After(patience):
		t.Fatalf("it does not end:\n%s", h.output.String())
		return nil
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *handler) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come to this: %s\n%s", what, h.output.String())
		}
		select {
		case <-h.done:
			t.Fatalf("the node handler ended (%v) before this: %s\n%s", h.err, what, h.output.String())
		default:
		}
	}
}

// dumps are the cores that a test drops, with their sums by the pod's name.
type dumps struct {
	dir  string
	sums map[string]string
}

// drop makes a core of a pod of its own, of the given size; every third is compressed already.
func (d *dumps) drop(t *testing.T, n, size int) {
	t.Helper()
	pod := fmt.Sprintf("pod-%d", n)
	core := corefiletest.Core(size, uint64(n))
	sum := sha256.Sum256(core)
	if d.sums == nil {
		d.sums = map[string]string{}
	}
	d.sums[pod] = hex.EncodeToString(sum[:])
	name := fmt.Sprintf("core.%d", n+1)
	if n%3 == 2 {
		var b bytes.Buffer
		z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
		must(t, err)
		_, err = z.Write(core)
		must(t, errors.Join(err, z.Close()))
		core, name = b.Bytes(), name+".gz"
	}
	dir := filepath.Join(d.dir, "team", pod, "app")
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, name), core, 0o600))
}

// left are the files that are still on the node.
func (d *dumps) left(t *testing.T) (files []string) {
	t.Helper()
	must(t, filepath.WalkDir(d.dir, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.Name() == dumpdir.SpoolDir:
			return fs.SkipDir
		case !e.IsDir():
			files = append(files, name)
		}
		return nil
	}))
	return files
}

// check looks into the store: every dump exactly once with its sum, and nothing else of the layout.
func (d *dumps) check(t *testing.T, url string) {
	t.Helper()
	bucket, err := buckets.Open(t.Context(), url)
	must(t, err)
	stored := storage.NewDumps(bucket)
	seen := map[string]int{}
	for l, err := range stored.List(t.Context(), storage.Scope{}, "") {
		must(t, errors.Join(err, l.Err))
		pod := l.Record.Spec.PodName
		seen[pod]++
		if l.Record.Status.SHA256 != d.sums[pod] || l.Record.Status.Truncated {
			t.Errorf("%s: sum %s, want %s; truncated %v", pod, l.Record.Status.SHA256, d.sums[pod], l.Record.Status.Truncated)
		}
		core, err := stored.OpenCore(t.Context(), l.Record)
		must(t, err)
		if _, err := io.Copy(io.Discard, core); err != nil { // compares with the record
			t.Errorf("%s: %v", pod, err)
		}
		core.Close()
	}
	for pod := range d.sums {
		if seen[pod] != 1 {
			t.Errorf("%s is in the store %d times", pod, seen[pod])
		}
	}
	bodies := 0
	for e, err := range stored.Entries(t.Context(), storage.Scope{}, "") {
		must(t, err)
		if !e.IsRecord {
			bodies++
		}
	}
	if bodies != len(d.sums) {
		t.Errorf("%d bodies for %d dumps", bodies, len(d.sums))
	}
}

// halves counts the unfinished uploads that were left in the store, for gc, and the bodies that have no record.
func halves(t *testing.T, url string) (n int) {
	t.Helper()
	bucket, err := buckets.Open(t.Context(), url)
	must(t, err)
	for _, err := range bucket.Uploads(t.Context()) {
		must(t, err)
		n++
	}
	for e, err := range storage.NewDumps(bucket).Entries(t.Context(), storage.Scope{}, "") {
		must(t, err)
		if e.IsRecord {
			n--
		} else {
			n++
		}
	}
	return n
}

func TestADumpGoesTheWholeWay(t *testing.T) {
	d := &dumps{dir: t.TempDir()}
	url := "file://" + t.TempDir()
	check := filepath.Join(t.TempDir(), "check")
	h := spawn(t, nil, "--store="+url, "--check-file="+check, "--cluster-name=prod", d.dir)
	h.eventually(t, "it is up", func() bool { return readCheck(check) == checkAlive })
	d.drop(t, 0, 1<<20)
	h.eventually(t, "nothing is left", func() bool { return len(d.left(t)) == 0 })
	if err := h.terminate(t); err != nil {
		t.Errorf("it ended with %v\n%s", err, h.output.String())
	}
	if got := readCheck(check); got != checkDead {
		t.Errorf("the check file says %q at the end", got)
	}
	d.check(t, url)
	if log := h.output.String(); strings.Count(log, "[coredump]") != 1 || !strings.Contains(log, `pod="pod-0"`) {
		t.Errorf("the log:\n%s", log)
	}
}

func readCheck(name string) string {
	data, _ := os.ReadFile(name)
	return strings.TrimSpace(string(data))
}

func TestTwoHandlersDoNotShareADirectory(t *testing.T) {
	dir, check := t.TempDir(), filepath.Join(t.TempDir(), "check")
	args := []string{"--store=file://" + t.TempDir(), "--check-file=" + check, dir}
	first := spawn(t, nil, args...)
	first.eventually(t, "it is up", func() bool { return readCheck(check) == checkAlive })
	args[1] += "2"
	second := spawn(t, nil, args...)
	second.eventually(t, "it waits", func() bool { return strings.Contains(second.output.String(), "another node handler has the directory") })
	second.eventually(t, "it says that it has not started", func() bool { return readCheck(check+"2") == checkStarting })
	first.kill()
	second.eventually(t, "it takes over", func() bool { return readCheck(check+"2") == checkAlive })
}

func TestWhatIsNotDoneAtTheEndIsDoneAfterTheNextStart(t *testing.T) {
	d := &dumps{dir: t.TempDir()}
	store := t.TempDir()
	url := "file://" + store
	h := spawn(t, nil, "--store="+url, "--shutdown-grace=0s", d.dir)
	h.eventually(t, "it is up", func() bool { return strings.Contains(h.output.String(), "Starting") })
	must(t, os.Chmod(store, 0)) // does not stop root, and then it is done at once
	d.drop(t, 0, 1<<20)
	d.drop(t, 1, 1<<20)
	if err := h.terminate(t); err != nil {
		t.Errorf("it ended with %v", err)
	}
	must(t, os.Chmod(store, 0o700))
	h = spawn(t, nil, "--store="+url, d.dir)
	h.eventually(t, "nothing is left", func() bool { return len(d.left(t)) == 0 })
	d.check(t, url)
}
