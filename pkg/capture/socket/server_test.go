// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture/kerneltest"
	"example.io/coredump/pkg/corefile"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("COREDUMP_TEST_LISTEN"); path != "" {
		if _, err := Listen(path); err != nil {
			panic(err)
		}
		// As a runtime without handlers of signals would die.
		syscall.Kill(os.Getpid(), syscall.SIGSYS)
		select {}
	}
	os.Exit(m.Run())
}

// refusals collects why connections were refused.
type refusals chan Refusal

func (r refusals) next(t *testing.T) Refusal {
	t.Helper()
	select {
	case why := <-r:
		return why
	case <-time.After(time.Minute):
		t.Fatal("nothing was refused")
		return ""
	}
}

// serve runs a server until the test ends.
func serve(t *testing.T, path string, handle func(*Crash), with ...func(*Server)) refusals {
	t.Helper()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := make(refusals, 100)
	s := &Server{
		Handle:  func(_ context.Context, c *Crash) { handle(c) },
		Refused: func(why Refusal, err error) { t.Log(why, err); refused <- why },
		// Long enough for any machine.
		Concurrent: 4, Waiting: 4, WaitTimeout: time.Minute, Handshake: time.Minute,
	}
	for _, f := range with {
		f(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return refused
}

// forCrashes makes the kernel deliver to a server.
func forCrashes(t *testing.T, handle func(*Crash), with ...func(*Server)) refusals {
	t.Helper()
	kerneltest.Sockets(t)
	path := filepath.Join(kerneltest.Dir(t), "s", "core.sock")
	kerneltest.Have(t, "", "0")
	refused := serve(t, path, handle, with...)
	kerneltest.Set(t, "kernel/core_pattern", "@@"+path)
	return refused
}

// taken is what a handler saw of a crash.
type taken struct {
	uid, gid   int64
	dumpable   int32
	core       []byte
	pidns, exe string
	alive      error
}

func TestACrashInOtherNamespacesArrivesWhole(t *testing.T) {
	got := make(chan taken, 1)
	forCrashes(t, func(c *Crash) {
		k := taken{uid: c.UID, gid: c.GID, dumpable: c.Dumpable}
		if err := c.Accept(); err != nil {
			t.Error(err)
		}
		k.core, _ = io.ReadAll(c)
		// The process is held until the handler returns.
		k.alive = unix.PidfdSendSignal(int(c.PIDFD.Fd()), 0, nil, 0)
		k.pidns, _ = os.Readlink("/proc/" + strconv.Itoa(c.PID) + "/ns/pid")
		k.exe, _ = os.Readlink("/proc/" + strconv.Itoa(c.PID) + "/exe")
		got <- k
	})
	// A pod as bad as can be: namespaces of its own, a file system of its own on /run, no cores by its own limit, nobody.
	out, err := exec.Command("unshare", "--mount", "--pid", "--fork", "--net", "--uts", "/bin/sh", "-c",
		`mount -t tmpfs none /run; cd /; setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'ulimit -c 0; kill -SEGV $$'; true`).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	k := <-got
	if k.uid != 65534 || k.gid != 65534 || k.dumpable != 1 {
		t.Errorf("the kernel says %d %d %d", k.uid, k.gid, k.dumpable)
	}
	h, err := corefile.ReadHeader(bytes.NewReader(k.core))
	if err != nil || h.PromisedSize != int64(len(k.core)) {
		t.Errorf("%d bytes of %d: %v", len(k.core), h.PromisedSize, err)
	}
	if ours, _ := os.Readlink("/proc/self/ns/pid"); k.pidns == "" || k.pidns == ours {
		t.Errorf("it is in the PID namespace %q, we in %q", k.pidns, ours)
	}
	if k.alive != nil || k.exe == "" {
		t.Errorf("at the end of its core it was gone: %v %q", k.alive, k.exe)
	}
}

func TestP5_ARejectedCrashDumpsNothingAndEndsAtOnce(t *testing.T) {
	answered := make(chan error, 1)
	refused := forCrashes(t, func(c *Crash) { answered <- c.Reject() })
	if kerneltest.Crash(t, kerneltest.Shell("/", kerneltest.Die)) {
		t.Error("the kernel says that it dumped core")
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if len(refused) > 0 {
		t.Errorf("refused: %v", <-refused)
	}
}

func TestAHandlerThatSaysNothingLetsTheProcessGo(t *testing.T) {
	refused := forCrashes(t, func(*Crash) {})
	kerneltest.Crash(t, kerneltest.Shell("/", kerneltest.Die))
	if why := refused.next(t); why != RefusedUndecided {
		t.Error(why)
	}
}

func TestP16_AProcessWithACoreLimitOfOneIsNotDumped(t *testing.T) {
	refused := forCrashes(t, func(*Crash) { t.Error("it reached the handler") })
	limit := unix.Rlimit{Cur: 1, Max: 1}
	cmd := kerneltest.Shell("/", "read go; kill -SEGV $$")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_CORE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	in.Write([]byte("go\n"))
	if why := refused.next(t); why != RefusedLimit {
		t.Error(why)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).CoreDump() {
		t.Error("it was dumped")
	}
}

func TestP5_CrashesBeyondTheBoundAreLetGo(t *testing.T) {
	begun, end := make(chan int, 2), make(chan struct{})
	refused := forCrashes(t, func(c *Crash) { begun <- c.PID; <-end; c.Reject() }, func(s *Server) { s.Concurrent, s.Waiting = 1, 0 })
	first := kerneltest.Shell("/", kerneltest.Die)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	<-begun
	if kerneltest.Crash(t, kerneltest.Shell("/", kerneltest.Die)) {
		t.Error("the kernel says that the second dumped core")
	}
	if why := refused.next(t); why != RefusedBusy {
		t.Error(why)
	}
	close(end)
	first.Wait()
}

func TestP5_OneThatWaitsTooLongIsLetGo(t *testing.T) {
	begun, end := make(chan int, 2), make(chan struct{})
	refused := forCrashes(t, func(c *Crash) { begun <- c.PID; <-end; c.Reject() },
		func(s *Server) { s.Concurrent, s.Waiting, s.WaitTimeout = 1, 1, time.Millisecond })
	first := kerneltest.Shell("/", kerneltest.Die)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	<-begun
	kerneltest.Crash(t, kerneltest.Shell("/", kerneltest.Die))
	if why := refused.next(t); why != RefusedBusy {
		t.Error(why)
	}
	close(end)
	first.Wait()
}

// TestP13_AServerDoesNotDumpItself lets a server crash while the kernel delivers to another: that must not hear of it.
func TestP13_AServerDoesNotDumpItself(t *testing.T) {
	forCrashes(t, func(c *Crash) { t.Errorf("process %d, a server, was dumped", c.PID); c.Reject() })
	if d, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || d != 0 {
		t.Errorf("after Listen it is dumpable: %d %v", d, err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "COREDUMP_TEST_LISTEN="+filepath.Join(kerneltest.Dir(t), "s", "core.sock"), "GOTRACEBACK=crash")
	if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).CoreDump() || !cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
		t.Errorf("it did not die without a dump: %v %s", err, out[:min(len(out), 500)])
	}
}

// TestP14_AConnectionThatTheKernelDidNotMakeIsRefused connects as a process would that got into the directory.
func TestP14_AConnectionThatTheKernelDidNotMakeIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s", "core.sock")
	refused := serve(t, path, func(*Crash) { t.Error("it reached the handler") })
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write(encodeRequest(16, 16, 15))
	if why := refused.next(t); why != RefusedForged {
		t.Error(why)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("it was answered: %d %v", n, err)
	}
}

// TestP14_NobodyButRootReachesTheSocket is the first line, and the one that holds.
func TestP14_NobodyButRootReachesTheSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	if err := os.Mkdir(dir, 0o755); err != nil { // as kubelet makes a hostPath
		t.Fatal(err)
	}
	serve(t, filepath.Join(dir, "core.sock"), func(*Crash) {})
	for name, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "core.sock"): 0o600} {
		if st, err := os.Lstat(name); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", name, st.Mode(), err)
		}
	}
	if err := os.Symlink(dir, dir+"-link"); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(filepath.Join(dir+"-link", "core.sock")); err == nil {
		t.Error("a directory behind a link is taken")
	}
}

func TestANewServerTakesOverAndTheOldOneLeavesItsSocketAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s", "core.sock")
	old, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := serve(t, path, func(*Crash) {})
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the new one is not there any more: %v", err)
	}
	c.Close()
	refused.next(t)
}

func TestTheSocketIsGoneAfterTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s", "core.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

func TestASecondAnswerIsAnError(t *testing.T) {
	c := &Crash{answered: true}
	if err := errors.Join(c.Reject(), c.Accept()); !errors.Is(err, errAnswered) {
		t.Error(err)
	}
}
