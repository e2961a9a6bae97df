// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// generous are limits that no test reaches, and retries that do not keep it waiting.
var generous = []string{"--max-per-hour=100000", "--max-per-site-per-hour=100000", "--max-per-namespace-per-hour=0", "--retry-max-backoff=5s"}

// handlerMemory is the node handler's limit in artifacts/base, in KiB.
const handlerMemory = 128 << 10

func TestNothingIsLostByThePipe(t *testing.T) {
	f := &shared
	m := pipe.with(generous...)
	f.enter(t, m)
	t.Run("100 crashes, the node handler killed again and again and the store away for a minute", func(t *testing.T) { storm(t, m) })
	t.Run("a process that is killed while it dumps leaves what there was, and both lengths", func(t *testing.T) { killedDumping(t, m) })
}

// storm: each of 100 crashes that the kernel says it delivered is one record, with the bytes of that process.
func storm(t *testing.T, m mode) {
	const pods, crashes, away = 5, 20, time.Minute
	f := &shared
	ns := f.namespace(t, "storm")
	user := f.user(t, ns)
	back := f.storeAway(t)
	enough := time.After(away)
	all := map[int]*corev1.Pod{} // by the size of their pattern, MiB
	for mib := 1; mib <= pods; mib++ {
		all[mib] = f.create(t, m, crashing(ns, fmt.Sprint("storm-", mib), "/crash", "-c", fmt.Sprint(crashes), "-p", "1000", "-m", fmt.Sprint(mib)))
	}
	stop := killAtRandom(t)
	for _, pod := range all {
		f.awaitPod(t, ns, pod.Name, ended)
	}
	killed := stop()
	<-enough
	back()

	total := 0
	for mib, pod := range all {
		delivered := f.delivered(t, pod)
		total += len(delivered)
		dumps := f.awaitDumps(t, user, pod, len(delivered))
		want := patternBytes(mib << 20)
		pids := map[int64]bool{}
		for _, d := range dumps {
			f.check(t, m, pod, d)
			if pid := d.Spec.Process.PID; pids[pid] || !delivered[pid] {
				t.Errorf("%s: process %d a second time, or never crashed", d.Name, pid)
			}
			pids[d.Spec.Process.PID] = true
			if s := d.Status; s.Truncated || s.Size != s.PromisedSize {
				t.Errorf("%s: %+v, want all of it", d.Name, s)
			}
			got := f.fetch(t, user, d)
			if sum := sha256.Sum256(got); hex.EncodeToString(sum[:]) != d.Status.SHA256 || !bytes.Contains(got, want) {
				t.Errorf("%s: %d bytes are not of a process with %d MiB", d.Name, len(got), mib)
			}
		}
	}
	t.Logf("%d crashes delivered, node handler killed %d times", total, killed)
	if total < pods*crashes*9/10 || killed < 3 {
		t.Errorf("%d crashes were delivered, the node handler was killed %d times: that shows nothing", total, killed)
	}
	await(t, func(context.Context) error { return emptySpool() })
	for _, pid := range nodeHandlers() {
		keepsToMemory(t, pid)
	}
}

// emptySpool fails where an entry is left in the spool, finished or not.
func emptySpool() error {
	for _, state := range []string{"incoming", "ready", "aside", "gone"} {
		left, err := os.ReadDir(filepath.Join(watched, ".spool", state))
		if err != nil || len(left) > 0 {
			return fmt.Errorf("left in the spool, %s: %v (%v)", state, left, err)
		}
	}
	return nil
}

// killAtRandom kills the node handler at random moments until the function that it gives is called, which says how often it did, or the test ends. It looks
// at its memory before.
func killAtRandom(t *testing.T) (stop func() int) {
	end, killed := make(chan struct{}), make(chan int)
	go func() {
		for n := 0; ; {
			select {
			case <-end:
				killed <- n
				return
			case <-time.After(rand.N(1500 * time.Millisecond)): // from before it has begun to work until it has done a lot
			}
			for _, pid := range nodeHandlers() {
				keepsToMemory(t, pid)
				if syscall.Kill(pid, syscall.SIGKILL) == nil {
					n++
				}
			}
		}
	}()
	stop = sync.OnceValue(func() int {
		close(end)
		return <-killed
	})
	t.Cleanup(func() { stop() })
	return stop
}

// keepsToMemory fails where a process has had more memory than the node handler may have: the limit of its container would end it, which its restart would hide.
// Pages of its program's file do not count: they are shared, and the kernel drops them before it ends anybody.
func keepsToMemory(t *testing.T, pid int) {
	most, err := memoryOf(pid, "VmHWM")
	if err != nil {
		return // it has ended
	}
	file, err := memoryOf(pid, "RssFile")
	if err != nil {
		return
	}
	t.Logf("memory of process %d: at most %d MiB, and %d MiB of its file", pid, (most-file)>>10, file>>10)
	if most-file >= handlerMemory {
		t.Errorf("process %d had %d KiB of memory, the limit is %d", pid, most-file, handlerMemory)
	}
}

// memoryOf is a line of /proc/<pid>/status, in KiB; see proc_pid_status(5).
func memoryOf(pid int, name string) (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, name)
}

// delivered are the processes of a pod of "crash -c", by their ids in the pod, of which the kernel says that they left a dump.
func (f *fixture) delivered(t *testing.T, pod *corev1.Pod) map[int64]bool {
	t.Helper()
	pids := map[int64]bool{}
	for line := range strings.Lines(f.admin(t, "logs", "-n", pod.Namespace, pod.Name)) {
		var pid int64
		var dumped int
		if n, _ := fmt.Sscanf(line, "crashed %d %d", &pid, &dumped); n == 2 && dumped == 1 {
			pids[pid] = true
		}
	}
	return pids
}

// fetch downloads the core of a dump.
func (f *fixture) fetch(t *testing.T, config string, d v1alpha1.CoreDump) []byte {
	t.Helper()
	client, err := f.cluster.Client(config)
	if err != nil {
		t.Fatal(err)
	}
	body, err := client.Discovery().RESTClient().Get().AbsPath(api, "namespaces", d.Namespace, "coredumps", d.Name, "dump").Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	z, err := gzip.NewReader(body)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		if _, err := r.Next(); err != nil {
			t.Fatalf("no core in the archive of %s: %v", d.Name, err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(content, []byte("\x7fELF")) {
			return content
		}
	}
}

// killedDumping: SIGKILL ends a dump with a clean end of the stream; the record says that it is none.
func killedDumping(t *testing.T, m mode) {
	f := &shared
	ns := f.namespace(t, "killed-dumping")
	user := f.user(t, ns)
	pod := f.create(t, m, crashing(ns, "big", "/crash", "-w", "-m", "512"))
	var pid int
	await(t, func(context.Context) (err error) {
		pid, err = processOf(pod, "crash")
		return err
	})
	await(t, func(context.Context) error { return hasMemory(pid, 512<<10) })
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !dumping(16 << 20) {
		if ctx.Err() != nil {
			t.Fatal("no dump that grows")
		}
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s := f.awaitDump(t, m, user, pod).Status
	if !s.Truncated || s.Size < 16<<20 || s.Size >= s.PromisedSize || s.PromisedSize < 512<<20 || !strings.Contains(s.TruncatedReason, "killed while its dump was taken") {
		t.Errorf("%+v: want a part of more than 512 MiB, and why", s)
	}
	await(t, func(ctx context.Context) error { return f.event(ctx, ns, "big", "CoreDumpTruncated") })
}

// dumping tells whether a dump is being taken of which so many bytes are there.
func dumping(bytes int64) bool {
	cores, _ := filepath.Glob(watched + "/.spool/incoming/*/core")
	return slices.ContainsFunc(cores, func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && info.Size() >= bytes
	})
}

// processOf finds the process of a pod by the name of its program.
func processOf(pod *corev1.Pod, name string) (int, error) {
	processes, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, path := range processes {
		comm, _ := os.ReadFile(path)
		group, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cgroup"))
		if string(comm) == name+"\n" && bytes.Contains(group, []byte(pod.UID)) {
			return strconv.Atoi(filepath.Base(filepath.Dir(path)))
		}
	}
	return 0, errors.New("no process yet")
}

// hasMemory fails while a process has less memory in use, in KiB.
func hasMemory(pid, kib int) error {
	n, err := memoryOf(pid, "VmRSS")
	if err == nil && n < kib {
		err = fmt.Errorf("process %d uses %d KiB", pid, n)
	}
	return err
}

func TestAFullDiskHarmsNobody(t *testing.T) {
	f := &shared
	m := pipe.with(generous...)
	f.enter(t, m)
	ns := f.namespace(t, "full")
	user := f.user(t, ns)
	// The spool is on a file system of 128 MiB, of which 10 % stay free: two dumps fit, a third in part.
	bringBack := f.withoutHandler(t)
	if err := syscall.Mount("tmpfs", watched, "tmpfs", 0, "size=128m,mode=0755"); err != nil {
		t.Fatal(err)
	}
	defer func() { // and not by Cleanup, which has no context any more
		again := f.withoutHandler(t)
		if err := syscall.Unmount(watched, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
		again()
	}()
	bringBack()
	f.awaitReady(t)

	back := f.storeAway(t)
	pods := map[string]*corev1.Pod{}
	crash := func(name string) {
		pods[name] = f.create(t, m, crashing(ns, name, "/crash", "-m", "48"))
		f.awaitPod(t, ns, name, ended)
	}
	crash("first")
	crash("second")
	crash("third")
	await(t, func(ctx context.Context) error { return f.event(ctx, ns, "third", "CoreDumpTruncated") })
	crash("fourth")
	await(t, func(ctx context.Context) error { return f.event(ctx, ns, "fourth", "CoreDumpSuppressed") })
	await(t, func(ctx context.Context) error { return f.nodeEvent(ctx, "CoreDumpSpoolFull") })
	var st syscall.Statfs_t
	if err := syscall.Statfs(watched, &st); err != nil || st.Bavail*uint64(st.Bsize) < 11<<20 {
		t.Errorf("%d bytes are free (%v), 10 %% are to stay", st.Bavail*uint64(st.Bsize), err)
	}
	if n := f.metrics(t)[`coredump_nodehandler_suppressed_total{namespace="full",reason="no-space"}`]; n != 1 {
		t.Errorf("%v dumps are counted that had no room, want 1", n)
	}

	back()
	for _, name := range []string{"first", "second"} {
		isOfCrash(t, f.download(t, user, f.awaitDump(t, m, user, pods[name])), 48, 1)
	}
	if s := f.awaitDump(t, m, user, pods["third"]).Status; !s.Truncated || s.Size == 0 || s.Size >= s.PromisedSize || !strings.Contains(s.TruncatedReason, "no room") {
		t.Errorf("the third dump is %+v, want a part of it, and why", s)
	}
	crash("fifth")
	isOfCrash(t, f.download(t, user, f.awaitDump(t, m, user, pods["fifth"])), 48, 1)
	f.awaitDumps(t, user, pods["fourth"], 0)
}

// nodeEvent is nil where the node has an Event of the reason.
func (f *fixture) nodeEvent(ctx context.Context, reason string) error {
	client, err := f.cluster.Client(f.cluster.Admin)
	if err != nil {
		return err
	}
	events, err := client.EventsV1().Events("default").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var all []string
	for _, e := range events.Items {
		if e.Regarding.Kind == "Node" && e.Reason == reason {
			return nil
		}
		all = append(all, e.Reason)
	}
	return fmt.Errorf("no Event %s of the node: there are %q", reason, all)
}
