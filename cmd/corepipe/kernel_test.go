// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/capture/kerneltest"
	"example.io/coredump/pkg/capture/notify"
	"example.io/coredump/pkg/corefile"
	"example.io/coredump/pkg/spool"
)

// The tests here have real crashes delivered by the real kernel. The test's own program is both corepipe, where it is called so, and
// the program that crashes.
const (
	corepipeName = "corepipe"
	handlerName  = "handler" // what the host had before
	crashEnv     = "COREPIPE_TEST_CRASH"
)

func TestMain(m *testing.M) {
	switch {
	case filepath.Base(os.Args[0]) == corepipeName:
		main()
		os.Exit(0)
	case filepath.Base(os.Args[0]) == slowName:
		slowly()
	case filepath.Base(os.Args[0]) == handlerName:
		handle()
		os.Exit(0)
	case os.Getenv(crashEnv) != "":
		crashNow(os.Getenv(crashEnv))
	}
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// handle keeps what the kernel's helper gets: its arguments, descriptors and dump.
func handle() {
	pid := 0
	if status, err := os.ReadFile("/proc/self/fdinfo/3"); err == nil {
		for line := range strings.Lines(string(status)) {
			_, _ = fmt.Sscanf(line, "Pid: %d", &pid)
		}
	}
	cwd, _ := os.Getwd()
	said := fmt.Sprintf("%q %s %d %d", os.Args[1:], cwd, len(os.Environ()), pid)
	f, err := os.Create(os.Args[1])
	if err == nil {
		_, err = io.Copy(f, os.Stdin)
		err = errors.Join(err, f.Close(), os.WriteFile(os.Args[1]+".said.tmp", []byte(said), 0o600), os.Rename(os.Args[1]+".said.tmp", os.Args[1]+".said"))
	}
	if err != nil {
		os.Exit(1)
	}
}

// crashNow fills memory as "<what> <MiB>" says, tells on standard output where it is, waits for a byte on standard input, and crashes.
func crashNow(how string) {
	var what string
	var mib int
	_, err := fmt.Sscan(how, &what, &mib)
	if err != nil {
		panic(err)
	}
	b, err := unix.Mmap(-1, 0, mib<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		panic(err)
	}
	switch what {
	case "random":
		_, _ = seeded(mib).Read(b)
	case "bomb":
		b[0] = 1
	}
	if name := os.Getenv(slowEnv); name != "" {
		if err := touchSlowly(name); err != nil {
			panic(err)
		}
	}
	fmt.Printf("%d\n", uintptr(unsafe.Pointer(&b[0])))
	_, _ = os.Stdin.Read(make([]byte, 1))
	// Nothing of ours minds this limit, but files do.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err == nil {
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: limit.Max, Max: limit.Max})
	}
	// The runtime's handler would tell a long story first. See sigaction(2); the kernel's struct begins with the handler, and SIG_DFL is 0.
	var byDefault [4]uint64
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGSEGV), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
	_ = unix.Kill(os.Getpid(), unix.SIGSEGV)
	select {}
}

func seeded(seed int) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{byte(seed)}) }

// host is a host whose core_pattern is corepipe.
type host struct {
	t      *testing.T
	dir    string
	config capture.Config
	spool  *spool.Spool
	cgroup string
	// program is what crashes.
	program string
}

// newHost takes the kernel's settings for the test. Its specifiers are those of corepipe unless others are given.
func newHost(t *testing.T, pipeLimit string, specifiers string, configure func(*capture.Config)) *host {
	t.Helper()
	kerneltest.Have(t, "", pipeLimit)  // until the test ends
	dir, err := os.MkdirTemp("", "cp") // short: a core_pattern has 127 bytes
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &host{t: t, dir: dir, config: capture.DefaultConfig(), program: "/proc/self/exe"}
	t.Cleanup(func() { h.eventually("corepipe has ended", func() bool { return h.helper() == 0 }) })
	h.config.Spool = filepath.Join(dir, "spool")
	h.config.MinFreeBytes, h.config.MinFreeInodes = 0, 0
	if configure != nil {
		configure(&h.config)
	}
	b, err := h.config.Encode()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, capture.ConfigFile), b, 0o600))
	program, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, corepipeName), program, 0o700))
	h.spool, err = spool.Open(h.config.Spool)
	must(t, err)
	t.Cleanup(func() { h.spool.Close() })
	h.cgroup = podCgroup(t)

	if specifiers == "" {
		specifiers = capture.Specifiers
	}
	kerneltest.Set(t, "kernel/core_pattern", "|"+filepath.Join(dir, corepipeName)+" "+specifiers)
	return h
}

// podCgroup makes a cgroup as a pod's container has it.
func podCgroup(t *testing.T) string {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(root + "/cgroup.procs"); err != nil {
			continue
		}
		pod := filepath.Join(root, "kubepods", "pod0d5f3b5c-5d0a-4f0e-9d3b-"+fmt.Sprintf("%012x", os.Getpid()))
		container := filepath.Join(pod, strings.Repeat("c0", 32))
		if err := os.MkdirAll(container, 0o755); err != nil {
			t.Skipf("NOT TESTED: cannot make a cgroup: %v", err)
		}
		t.Cleanup(func() { _, _ = os.Remove(container), os.Remove(pod) })
		return container
	}
	t.Skip("NOT TESTED: no cgroup2 here")
	return ""
}

// victim is a process that crashes when it is told to.
type victim struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	addr uint64
}

// start starts a victim, in the pod's cgroup or, where that is false, as a process of the host.
func (h *host) start(how string, pod bool) *victim {
	h.t.Helper()
	if pod {
		return h.startWith(how, h.cgroup)
	}
	return h.startWith(how, "")
}

// startWith starts a victim in a cgroup, with more in its environment.
func (h *host) startWith(how, cgroup string, env ...string) *victim {
	h.t.Helper()
	v := &victim{cmd: exec.Command(h.program)}
	v.cmd.Env = append(env, crashEnv+"="+how)
	if cgroup != "" {
		cg, err := os.Open(cgroup)
		must(h.t, err)
		defer cg.Close()
		v.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cg.Fd())}
	}
	var err error
	v.in, err = v.cmd.StdinPipe()
	must(h.t, err)
	out, err := v.cmd.StdoutPipe()
	must(h.t, err)
	must(h.t, v.cmd.Start())
	h.t.Cleanup(func() { _ = v.cmd.Process.Kill(); _ = v.cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	must(h.t, err)
	v.addr, err = strconv.ParseUint(strings.TrimSpace(line), 10, 64)
	must(h.t, err)
	return v
}

func (v *victim) crash() { _, _ = v.in.Write([]byte{1}) }

// wait waits for the end of the victim and gives its signal.
func (v *victim) wait() syscall.Signal {
	_ = v.cmd.Wait()
	return v.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()
}

const patience = 30 * time.Second

// eventually waits until something is so. What is waited for has no other way to tell.
func (h *host) eventually(what string, f func() bool) {
	h.t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// entry waits for the one entry that becomes ready.
func (h *host) entry() (*spool.Entry, *spool.Meta, *spool.Outcome) {
	h.t.Helper()
	var names []string
	h.eventually("an entry is ready", func() bool {
		var err error
		names, err = h.spool.Ready()
		must(h.t, err)
		return len(names) > 0
	})
	if len(names) > 1 {
		h.t.Fatalf("entries: %v", names)
	}
	e, err := h.spool.Entry(names[0])
	must(h.t, err)
	h.t.Cleanup(func() { e.Close() })
	m, err := e.Meta()
	must(h.t, err)
	o, err := e.Outcome()
	must(h.t, err)
	return e, m, o
}

// helper finds the process of corepipe; 0 where there is none.
func (h *host) helper() int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		if exe, _ := os.Readlink(d + "/exe"); exe == filepath.Join(h.dir, corepipeName) {
			pid, _ := strconv.Atoi(filepath.Base(d))
			return pid
		}
	}
	return 0
}

// judge is a node handler that gives one verdict, after it has been let.
type judge struct {
	t       *testing.T
	verdict capture.Verdict
	let     chan struct{}
	asked   chan *notify.Crash
	ended   chan *notify.Crash
}

func (j *judge) Judge(ctx context.Context, c *notify.Crash) capture.Verdict {
	j.asked <- c
	select {
	case <-j.let:
	case <-ctx.Done():
	}
	return j.verdict
}
func (j *judge) Ended(c *notify.Crash) { j.ended <- c }

// nodeHandler serves until stop is called.
func (h *host) nodeHandler(v capture.Verdict) (j *judge, stop func()) {
	h.t.Helper()
	l, err := notify.Listen(h.spool)
	must(h.t, err)
	j = &judge{h.t, v, make(chan struct{}), make(chan *notify.Crash, 9), make(chan *notify.Crash, 9)}
	ctx, cancel := context.WithCancel(h.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- (&notify.Server{Handler: j, Answer: patience}).Serve(ctx, l) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Error(err)
		}
		ended <- nil
	}
	h.t.Cleanup(stop)
	return j, stop
}

func TestARealCrashBecomesAReadyEntryWithTheWholeCore(t *testing.T) {
	h := newHost(t, "16", "", nil)
	v := h.start("random 64", true)
	v.crash()
	if sig := v.wait(); sig != unix.SIGSEGV {
		t.Errorf("ended by %v", sig)
	}
	e, m, o := h.entry()
	if !m.Verified || m.HostPID != int64(v.cmd.Process.Pid) || m.Signal != int32(unix.SIGSEGV) || m.StartTime == 0 ||
		!strings.Contains(m.Cgroup, "kubepods/pod0d5f3b5c") || !strings.HasSuffix(m.Exe, ".test") || m.Mode != "pipe" {
		t.Errorf("%+v", m)
	}
	if o.Truncated != "" || o.Suppressed != "" || o.Size != o.PromisedSize || o.Size < 64<<20 || o.Answered {
		t.Errorf("%+v", o)
	}
	t.Logf("first byte %d µs, held %d µs", o.FirstByteMicros, o.HoldMicros)
	sameMemory(t, e, v.addr, 64)
	files, err := e.ContextFiles()
	must(t, err)
	if len(files) != len(capture.DefaultFacts) {
		t.Errorf("context: %v", files)
	}
	gdb(t, filepath.Join(h.spool.ReadyPath(), e.Name(), spool.CoreFile), "SIGSEGV")
}

// sameMemory compares the core with what the process had in its memory.
func sameMemory(t *testing.T, e *spool.Entry, addr uint64, mib int) {
	t.Helper()
	f, err := e.OpenCore()
	must(t, err)
	defer f.Close()
	c, err := elf.NewFile(f)
	must(t, err)
	want := make([]byte, mib<<20)
	_, _ = seeded(mib).Read(want)
	for _, p := range c.Progs {
		if p.Type == elf.PT_LOAD && addr >= p.Vaddr && addr+uint64(len(want)) <= p.Vaddr+p.Filesz {
			got := make([]byte, len(want))
			_, err := p.ReadAt(got, int64(addr-p.Vaddr))
			must(t, err)
			if string(got) != string(want) {
				t.Error("the memory in the core is another")
			}
			return
		}
	}
	t.Error("the memory is not in the core")
}

func gdb(t *testing.T, core, want string) {
	t.Helper()
	path, err := exec.LookPath("gdb")
	if err != nil {
		t.Log("NOT TESTED: no gdb here")
		return
	}
	out, err := exec.Command(path, "-nx", "-batch", "-ex", "info registers rip", "/proc/self/exe", core).CombinedOutput()
	if err != nil || !strings.Contains(string(out), want) {
		t.Errorf("gdb: %v\n%s", err, out)
	}
}

func TestACrashOfTheHostIsNotOurs(t *testing.T) {
	h := newHost(t, "16", "", nil)
	v := h.start("random 1", false)
	v.crash()
	v.wait()
	h.eventually("corepipe has ended", func() bool { return h.helper() == 0 })
	if u, err := h.spool.Usage(); err != nil || u.Entries != 0 {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestACrashOfTheHostGoesToTheProgramThatWasThereBefore(t *testing.T) {
	h := newHost(t, "16", "", func(c *capture.Config) {
		dir := filepath.Dir(c.Spool)
		c.Forward = "|" + filepath.Join(dir, handlerName) + " " + filepath.Join(dir, "core") + " %P %s %F a%%b"
	})
	program, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(h.dir, handlerName), program, 0o700))
	v := h.start("random 8", false)
	v.crash()
	v.wait()
	var said []byte
	h.eventually("the handler has run", func() bool {
		said, err = os.ReadFile(filepath.Join(h.dir, "core.said"))
		return err == nil
	})
	pid := v.cmd.Process.Pid
	if want := fmt.Sprintf("%q / 0 %d", []string{filepath.Join(h.dir, "core"), strconv.Itoa(pid), "11", "3", "a%b"}, pid); string(said) != want {
		t.Errorf("it was called with %s, want %s", said, want)
	}
	f, err := os.Open(filepath.Join(h.dir, "core"))
	must(t, err)
	defer f.Close()
	head, err := corefile.ReadHeader(bufio.NewReader(f))
	must(t, err)
	if st, err := f.Stat(); err != nil || st.Size() != head.PromisedSize {
		t.Errorf("%d bytes of %d came, %v", st.Size(), head.PromisedSize, err)
	}
	if u, err := h.spool.Usage(); err != nil || u.Entries != 0 {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestAnOptedOutPodCanGoToTheFileThatWasThereBefore(t *testing.T) {
	h := newHost(t, "16", "", func(c *capture.Config) {
		c.AnswerTimeout, c.Deadline = capture.Duration(patience), capture.Duration(patience)
		c.Forward = filepath.Join(filepath.Dir(c.Spool), "core.%P.%s")
	})
	j, _ := h.nodeHandler(capture.Verdict{Action: capture.Forward})
	close(j.let)
	v := h.start("random 8", true)
	v.crash()
	v.wait()
	f, err := os.Open(filepath.Join(h.dir, fmt.Sprintf("core.%d.11", v.cmd.Process.Pid)))
	must(t, err)
	defer f.Close()
	head, err := corefile.ReadHeader(bufio.NewReader(f))
	must(t, err)
	if st, err := f.Stat(); err != nil || st.Size() != head.PromisedSize {
		t.Errorf("%d bytes of %d came, %v", st.Size(), head.PromisedSize, err)
	}
	if u, err := h.spool.Usage(); err != nil || u.Entries != 0 {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestP1_WithoutAPidfdOfTheKernelTheProcessIsVerifiedByItsState(t *testing.T) {
	h := newHost(t, "16", strings.Replace(capture.Specifiers, "%F", "%x", 1), nil)
	v := h.start("random 1", true)
	v.crash()
	v.wait()
	if _, m, _ := h.entry(); !m.Verified || m.HostPID != int64(v.cmd.Process.Pid) {
		t.Errorf("%+v", m)
	}
}

func TestP18_ADumpThatASIGKILLEndedIsMarked(t *testing.T) {
	h := newHost(t, "16", "", func(c *capture.Config) {
		c.AnswerTimeout, c.Deadline = capture.Duration(patience), capture.Duration(patience)
	})
	j, _ := h.nodeHandler(capture.Verdict{Action: capture.Keep})
	v := h.start("random 64", true)
	v.crash()
	<-j.asked // the kernel has filled the pipe with the first 64 KiB
	must(t, v.cmd.Process.Kill())
	h.eventually("the process is gone", func() bool { return syscall.Kill(v.cmd.Process.Pid, 0) != nil || v.wait() == unix.SIGKILL })
	close(j.let)
	_, m, o := h.entry()
	if o.Truncated != spool.ReasonKilled || o.Size == 0 || o.Size >= o.PromisedSize || o.PromisedSize < 64<<20 || !m.Verified {
		t.Errorf("%+v %+v", o, m)
	}
}

func TestP4_ACoreBombIsCutBeforeTheKernelHasToProduceIt(t *testing.T) {
	h := newHost(t, "16", "", func(c *capture.Config) { c.MaxSize, c.CutSize = 1<<30, 4<<20 })
	v := h.start("bomb 8192", true)
	v.crash()
	v.wait()
	_, _, o := h.entry()
	if o.Truncated != spool.ReasonTooLarge || o.Size != 4<<20 || o.PromisedSize < 8<<30 {
		t.Errorf("%+v", o)
	}
	t.Logf("held %d µs", o.HoldMicros)
}

func TestP5_TheKernelsLimitOfHelpersIsKept(t *testing.T) {
	h := newHost(t, "1", "", func(c *capture.Config) {
		c.AnswerTimeout, c.Deadline = capture.Duration(patience), capture.Duration(patience)
	})
	j, _ := h.nodeHandler(capture.Verdict{Action: capture.Keep})
	first, second := h.start("random 1", true), h.start("random 1", true)
	first.crash()
	<-j.asked
	second.crash()
	second.wait() // not held: its dump is dropped
	close(j.let)
	first.wait()
	if _, m, _ := h.entry(); m.HostPID != int64(first.cmd.Process.Pid) {
		t.Errorf("%+v", m)
	}
}

func TestP5_MoreAtOnceThanAreConfiguredAreDroppedAndNoted(t *testing.T) {
	h := newHost(t, "16", "", func(c *capture.Config) { c.MaxConcurrent = 1 })
	release, ok, err := h.spool.Slot(1)
	if err != nil || !ok {
		t.Fatal(err)
	}
	defer release()
	v := h.start("random 1", true)
	v.crash()
	v.wait()
	if _, _, o := h.entry(); o.Suppressed != spool.ReasonConcurrency {
		t.Errorf("%+v", o)
	}
}

func TestP17_ADumpWithoutRoomForAnEntryIsCounted(t *testing.T) {
	h := newHost(t, "16", "", func(c *capture.Config) { c.SpoolEntries = 1 })
	w, err := h.spool.Create("1-1-1-1")
	must(t, err)
	defer w.Close()
	v := h.start("random 1", true)
	v.crash()
	v.wait()
	h.eventually("it is counted", func() bool {
		n, err := h.spool.TakeLost()
		must(t, err)
		return n == 1
	})
}

func TestTheNodeHandlerIsToldWhileTheProcessIsHeld(t *testing.T) {
	h := newHost(t, "16", "", func(c *capture.Config) {
		c.AnswerTimeout, c.Deadline = capture.Duration(patience), capture.Duration(patience)
	})
	j, _ := h.nodeHandler(capture.Verdict{Action: capture.Drop, Reason: spool.ReasonOptedOut})
	v := h.start("random 1", true)
	v.crash()
	c := <-j.asked
	p, err := capture.OpenProcess(int(c.Meta.HostPID), dup(t, c.PIDFD), time.Unix(0, c.Meta.CrashTime))
	must(t, err)
	defer p.Close()
	if status, err := p.Read("status", 1<<14); err != nil || !strings.Contains(string(status), "CoreDumping:\t1") || c.Root == nil {
		t.Errorf("the process does not dump: %v", err)
	}
	e, err := h.spool.Entry(c.Entry)
	must(t, err)
	defer e.Close()
	must(t, e.WriteFile(spool.IdentityFile, []byte("{}")))
	close(j.let)
	v.wait()
	<-j.ended
	ready, _, o := h.entry()
	if o.Suppressed != spool.ReasonOptedOut || !o.Answered {
		t.Errorf("%+v", o)
	}
	if b, err := ready.ReadFile(spool.IdentityFile, 10); err != nil || string(b) != "{}" {
		t.Errorf("%q, %v", b, err)
	}
}

func dup(t *testing.T, f *os.File) int {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	return fd
}

func TestANodeHandlerThatEndsInTheMiddleCostsNothing(t *testing.T) {
	h := newHost(t, "16", "", func(c *capture.Config) {
		c.AnswerTimeout, c.Deadline = capture.Duration(patience), capture.Duration(patience)
	})
	j, stop := h.nodeHandler(capture.Verdict{Action: capture.Keep})
	v := h.start("random 8", true)
	v.crash()
	<-j.asked
	stop()
	v.wait()
	e, m, o := h.entry()
	if o.Truncated != "" || o.Suppressed != "" || !m.Verified {
		t.Errorf("%+v %+v", o, m)
	}
	sameMemory(t, e, v.addr, 8)
}

func TestCorepipeSurvivesAPoliteShutdown(t *testing.T) {
	h := newHost(t, "16", "", func(c *capture.Config) {
		c.AnswerTimeout, c.Deadline = capture.Duration(patience), capture.Duration(patience)
	})
	j, _ := h.nodeHandler(capture.Verdict{Action: capture.Keep})
	v := h.start("random 8", true)
	v.crash()
	<-j.asked
	must(t, unix.Kill(h.helper(), unix.SIGTERM))
	close(j.let)
	v.wait()
	if _, _, o := h.entry(); o.Truncated != "" || o.Suppressed != "" {
		t.Errorf("%+v", o)
	}
}

// P13, and the promise of the spool: corepipe itself may die.
func TestP13_CorepipeThatCrashesDumpsNothingAndLeavesAnEntryThatIsMarked(t *testing.T) {
	h := newHost(t, "16", "", func(c *capture.Config) {
		c.AnswerTimeout, c.Deadline = capture.Duration(patience), capture.Duration(patience)
	})
	j, _ := h.nodeHandler(capture.Verdict{Action: capture.Keep})
	v := h.start("random 8", true)
	v.crash()
	c := <-j.asked
	must(t, unix.Kill(h.helper(), unix.SIGSEGV))
	v.wait() // let go with its helper
	<-j.ended
	h.eventually("corepipe has ended", func() bool { return h.helper() == 0 })
	_, err := h.spool.Salvage()
	must(t, err)
	e, _, o := h.entry()
	if e.Name() != c.Entry || o.Suppressed != spool.ReasonAbandoned {
		t.Errorf("%s: %+v", e.Name(), o)
	}
}

func TestP15_CorepipeNeedsAFewMegabytesWhateverTheDump(t *testing.T) {
	h := newHost(t, "16", "", nil)
	v := h.start("random 512", true)
	v.crash()
	ended := make(chan struct{})
	go func() { defer close(ended); v.wait() }()
	peak := 0
	for running := true; running; {
		select {
		case <-ended:
			running = false
		case <-time.After(5 * time.Millisecond):
			if pid := h.helper(); pid != 0 {
				peak = max(peak, rss(pid))
			}
		}
	}
	h.entry()
	t.Logf("peak of the resident memory: %d KiB", peak)
	if peak == 0 || peak > 32<<10 {
		t.Errorf("%d KiB", peak)
	}
}

// rss is VmHWM in KiB.
func rss(pid int) int {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return 0
}

func TestWithoutAConfigurationTheProcessIsLetGoAndTheKernelsLogSaysSo(t *testing.T) {
	h := newHost(t, "16", "", nil)
	must(t, os.Remove(filepath.Join(h.dir, capture.ConfigFile)))
	log, err := os.OpenFile("/dev/kmsg", os.O_RDONLY|unix.O_NONBLOCK, 0)
	must(t, err)
	defer log.Close()
	_, err = log.Seek(0, io.SeekEnd)
	must(t, err)
	v := h.start("random 1", true)
	v.crash()
	v.wait()
	want := fmt.Sprintf("corepipe: the dump of process %d is lost", v.cmd.Process.Pid)
	h.eventually("a line in the kernel's log", func() bool {
		b := make([]byte, 8192)
		n, err := unix.Read(int(log.Fd()), b)
		if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EPIPE) {
			t.Fatal(err)
		}
		return strings.Contains(string(b[:max(0, n)]), want)
	})
}
