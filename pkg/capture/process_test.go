// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/spool"
)

// child is a process that does nothing until its end, which kill brings about and waits for.
func child(t testing.TB, env ...string) (cmd *exec.Cmd, pidfd int, kill func()) {
	t.Helper()
	fd := -1
	cmd = exec.Command("sleep", "1000")
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &fd}
	must(t, cmd.Start())
	if fd < 0 {
		t.Skip("this kernel gives no pidfd")
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	return cmd, fd, kill
}

// dup gives a descriptor that the Process may take over.
func dup(t testing.TB, fd int) int {
	t.Helper()
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	return n
}

func TestAProcessIsDescribedAsLongAsItLives(t *testing.T) {
	cmd, pidfd, kill := child(t)
	p, err := OpenProcess(cmd.Process.Pid, dup(t, pidfd), time.Now())
	must(t, err)
	defer p.Close()
	var m spool.Meta
	must(t, p.Describe(&m))
	if m.StartTime == 0 || !strings.HasSuffix(m.Exe, "sleep") || m.Cgroup == "" || m.PID == 0 || p.Root() < 0 || p.PID() != cmd.Process.Pid {
		t.Errorf("%+v", m)
	}
	kill()
	if err := p.Verify(); !errors.Is(err, ErrGone) {
		t.Errorf("a process that was reaped is still there: %v", err)
	}
	if err := p.Describe(&m); !errors.Is(err, ErrGone) {
		t.Errorf("and is described: %v", err)
	}
}

func TestP1_APidfdOfAnotherProcessIsRefused(t *testing.T) {
	one, _, _ := child(t)
	_, pidfd, _ := child(t)
	if _, err := OpenProcess(one.Process.Pid, dup(t, pidfd), time.Now()); !errors.Is(err, ErrGone) {
		t.Errorf("process %d by another's pidfd: %v", one.Process.Pid, err)
	}
	if _, err := OpenProcess(-1, -1, time.Now()); !errors.Is(err, ErrGone) {
		t.Errorf("process -1: %v", err)
	}
}

// A process that got the id of one that crashed must not lend it its name.
func TestP1_AnIdThatIsUsedAgainIsNotTheProcess(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: choosing process ids needs root")
	}
	for range 20 {
		victim, pidfd, kill := child(t)
		pid := victim.Process.Pid
		held, err := OpenProcess(pid, dup(t, pidfd), time.Now())
		must(t, err)
		defer held.Close()
		kill()
		if os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0) != nil {
			t.Skip("NOT TESTED: this kernel lets nobody choose process ids")
		}
		other, _, _ := child(t)
		if other.Process.Pid != pid {
			continue // somebody else got it: once more
		}
		if err := held.Verify(); !errors.Is(err, ErrGone) {
			t.Errorf("the process that is held: %v", err)
		}
		if b, err := held.Read("stat", 4096); err == nil {
			t.Errorf("read of another: %q", b)
		}
		var m spool.Meta
		if err := held.Describe(&m); err == nil || m.StartTime != 0 || m.Exe != "" || m.Cgroup != "" {
			t.Errorf("described as another: %+v, %v", m, err)
		}
		if _, err := OpenProcess(pid, dup(t, pidfd), time.Now()); !errors.Is(err, ErrGone) {
			t.Errorf("opened by the pidfd of the first: %v", err)
		}
		return
	}
	t.Skip("NOT TESTED: somebody else always got the id")
}

func TestP1_WithoutThePidfdOfTheKernelAProcessThatDumpsNothingIsNotTheOne(t *testing.T) {
	cmd, _, _ := child(t)
	if _, err := OpenProcess(cmd.Process.Pid, -1, time.Now()); !errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
}

func TestNoNameMakesAStartTime(t *testing.T) {
	rest := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 12345 20 21"
	for _, comm := range []string{"sleep", "a b", ") R 1 1 1 1 1", "((", "\n) S"} {
		got, err := startTime([]byte("7 (" + comm + ")" + rest))
		if err != nil || got != 12345 {
			t.Errorf("%q: %d, %v", comm, got, err)
		}
	}
	for _, bad := range []string{"", "7 (x", "7 (x) S 1 2", "7 (x)" + strings.Repeat(" x", 30)} {
		if _, err := startTime([]byte(bad)); err == nil {
			t.Errorf("%q has a start time", bad)
		}
	}
}

func TestP11_TheFactsAreThoseThatAreWanted(t *testing.T) {
	cmd, pidfd, _ := child(t, "SECRET=hunter2", "PATH=/bin")
	p, err := OpenProcess(cmd.Process.Pid, dup(t, pidfd), time.Now())
	must(t, err)
	defer p.Close()
	for _, values := range []bool{false, true} {
		w := newEntry(t, t.TempDir())
		must(t, WriteFacts(w.Entry, p, Facts, values))
		files, err := w.ContextFiles()
		must(t, err)
		if len(files) != len(Facts) {
			t.Errorf("%v", files)
		}
		b, err := w.ReadFile(spool.ContextDir+"/proc/environ", 1000)
		must(t, err)
		if want := map[bool]string{false: "SECRET=<redacted>\x00PATH=<redacted>\x00", true: "SECRET=hunter2\x00PATH=/bin\x00"}[values]; string(b) != want {
			t.Errorf("environ: %q", b)
		}
		if b, err = w.ReadFile(spool.ContextDir+"/proc/maps", maxFact); err != nil || !strings.Contains(string(b), "sleep") {
			t.Errorf("maps: %v", err)
		}
		if b, err = w.ReadFile(spool.ContextDir+"/proc/fd", maxFact); err != nil || !strings.Contains(string(b), `0 "/dev/null"`) {
			t.Errorf("fd: %q, %v", b, err)
		}
	}
	w := newEntry(t, t.TempDir())
	must(t, WriteFacts(w.Entry, p, []string{"limits", "../../etc/passwd", "mem"}, false))
	if files, err := w.ContextFiles(); err != nil || len(files) != 1 || filepath.Base(files[0]) != "limits" {
		t.Errorf("%v, %v", files, err)
	}
}

// Whatever may be a secret is left out unless it is asked for: the environment, its values, the command line.
func TestP11_NoSecretIsTakenByDefault(t *testing.T) {
	fd := -1
	cmd := exec.Command("sleep", "1000")
	cmd.Args[0] = "hunter2"
	cmd.Env = []string{"SECRET=hunter2"}
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &fd}
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	p, err := OpenProcess(cmd.Process.Pid, fd, time.Now())
	must(t, err)
	defer p.Close()
	config := DefaultConfig()
	w := newEntry(t, t.TempDir())
	must(t, WriteFacts(w.Entry, p, config.ProcFiles, config.EnvironValues))
	files, err := w.ContextFiles()
	must(t, err)
	if len(files) == 0 {
		t.Error("no facts at all")
	}
	for _, name := range files {
		if b, err := w.ReadFile(name, maxFact); err != nil || strings.Contains(string(b), "hunter2") {
			t.Errorf("%s has it: %v", name, err)
		}
	}
}
