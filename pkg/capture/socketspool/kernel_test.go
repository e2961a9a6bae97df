// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package socketspool

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/capture/initns"
	"example.io/coredump/pkg/capture/kerneltest"
	"example.io/coredump/pkg/capture/notify"
	"example.io/coredump/pkg/capture/socket"
	"example.io/coredump/pkg/corefile"
	"example.io/coredump/pkg/spool"
)

// judge is a node handler.
type judge struct {
	verdict capture.Verdict
	ended   chan *notify.Crash
}

func (j *judge) Judge(_ context.Context, crash *notify.Crash) capture.Verdict { return j.verdict }
func (j *judge) Ended(crash *notify.Crash)                                    { j.ended <- crash }

// listen has the kernel deliver to a Taker until the test ends; done gets every crash that was handled.
func listen(t *testing.T, verdict capture.Verdict, forward string) (s *spool.Spool, j *judge, done chan struct{}) {
	t.Helper()
	kerneltest.Sockets(t)
	dir := kerneltest.Dir(t)
	kerneltest.Have(t, "", "0")
	s, err := spool.Open(filepath.Join(dir, "spool"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	config := capture.DefaultConfig()
	config.Spool, config.Forward, config.MinFreeBytes = s.Path(), forward, 1<<20
	j = &judge{verdict, make(chan *notify.Crash, 10)}
	taker := &Taker{
		Spool: s, Config: &config, Handler: j, Namespaces: initns.Dir(), HostRoot: "/",
		Failed: func(err error) { t.Error(err) },
	}
	l, err := socket.Listen(filepath.Join(dir, "s", "core.sock"))
	if err != nil {
		t.Fatal(err)
	}
	done = make(chan struct{}, 10)
	server := &socket.Server{
		Handle:     func(ctx context.Context, c *socket.Crash) { taker.Handle(ctx, c); done <- struct{}{} },
		Refused:    func(why socket.Refusal, err error) { t.Error(why, err) },
		Concurrent: 4, Waiting: 4, WaitTimeout: time.Minute, Handshake: time.Minute,
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- server.Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-served })
	kerneltest.Set(t, "kernel/core_pattern", "@@"+filepath.Join(dir, "s", "core.sock"))
	return s, j, done
}

// inPod crashes in a cgroup like a pod's, and tells whether the kernel says that it dumped core.
func inPod(t *testing.T) bool {
	t.Helper()
	root := "/sys/fs/cgroup"
	var fs unix.Statfs_t
	if unix.Statfs(root, &fs) != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		root += "/unified"
		if unix.Statfs(root, &fs) != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
			t.Skip("NOT TESTED: no cgroup v2 here")
		}
	}
	name := []string{"kubepods", "burstable", fmt.Sprintf("pod0b3c1f2e-0000-4000-8000-%012d", os.Getpid()), strings.Repeat("ab", 32)}
	for i := range name {
		dir := filepath.Join(append([]string{root}, name[:i+1]...)...)
		switch err := os.Mkdir(dir, 0o755); {
		case err == nil:
			t.Cleanup(func() { os.Remove(dir) })
		case !os.IsExist(err):
			t.Skip("NOT TESTED: ", err)
		}
	}
	cgroup, err := os.Open(filepath.Join(append([]string{root}, name...)...))
	if err != nil {
		t.Fatal(err)
	}
	defer cgroup.Close()
	cmd := kerneltest.Shell("/", kerneltest.Die)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	return kerneltest.Crash(t, cmd)
}

// entry is the only one of the spool.
func entry(t *testing.T, s *spool.Spool) (*spool.Entry, *spool.Meta, *spool.Outcome) {
	t.Helper()
	ready, err := s.Ready()
	if err != nil || len(ready) != 1 {
		t.Fatal(ready, err)
	}
	e, err := s.Entry(ready[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	meta, err := e.Meta()
	if err != nil {
		t.Fatal(err)
	}
	outcome, err := e.Outcome()
	if err != nil {
		t.Fatal(err)
	}
	return e, meta, outcome
}

func TestACrashOfAPodIsInTheSpoolWhole(t *testing.T) {
	s, j, done := listen(t, capture.Verdict{Action: capture.Keep}, "")
	if !inPod(t) {
		t.Error("the kernel says that it dumped no core")
	}
	<-done
	e, meta, outcome := entry(t, s)
	if crash := <-j.ended; crash.Entry != e.Name() || crash.PIDFD == nil || crash.Root == nil {
		t.Errorf("the handler was told %+v", crash)
	}
	if !meta.Verified || meta.Mode != "socket" || meta.Comm != "sh" || meta.CoreLimit != -1 || !strings.Contains(meta.Cgroup, "kubepods") || meta.Exe == "" {
		t.Errorf("%+v", meta)
	}
	if outcome.Size == 0 || outcome.Size != outcome.PromisedSize || outcome.Truncated != "" || outcome.Suppressed != "" || !outcome.Answered {
		t.Errorf("%+v", outcome)
	}
	if files, err := e.ContextFiles(); err != nil || len(files) == 0 {
		t.Errorf("no facts: %v", err)
	}
}

func TestACrashThatIsNotWantedLeavesOnlyItsOutcome(t *testing.T) {
	s, j, done := listen(t, capture.Verdict{Action: capture.Drop, Reason: spool.ReasonRateLimit}, "")
	if inPod(t) {
		t.Error("the kernel says that it dumped core")
	}
	<-done
	<-j.ended
	if _, _, outcome := entry(t, s); outcome.Suppressed != spool.ReasonRateLimit || outcome.Size != 0 {
		t.Errorf("%+v", outcome)
	}
}

func TestAPodsCrashIsForwardedWhereTheVerdictSaysSo(t *testing.T) {
	dir := kerneltest.Dir(t)
	s, _, done := listen(t, capture.Verdict{Action: capture.Forward}, dir+"/core")
	inPod(t)
	<-done
	whole(t, dir+"/core")
	if ready, _ := s.Ready(); len(ready) > 0 {
		t.Errorf("and it is in the spool: %v", ready)
	}
}

func TestACrashOfTheHostGoesToItsOwnHandler(t *testing.T) {
	dir := kerneltest.Dir(t)
	script := "#!/bin/sh\ncat >" + dir + "/core\n{ echo $#; for a; do echo \"<$a>\"; done; readlink /proc/$$/ns/mnt; } >" + dir + "/facts\n"
	if err := os.WriteFile(dir+"/p", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	s, _, done := listen(t, capture.Verdict{Action: capture.Keep}, "|"+dir+"/p %s %u %e %c %h")
	kerneltest.Crash(t, kerneltest.Shell("/", kerneltest.Die))
	<-done
	whole(t, dir+"/core")
	host, _ := os.Hostname()
	mnt, _ := os.Readlink("/proc/self/ns/mnt")
	want := "5\n<11>\n<0>\n<sh>\n<18446744073709551615>\n<" + host + ">\n" + mnt + "\n"
	if b, err := os.ReadFile(dir + "/facts"); err != nil || string(b) != want {
		t.Errorf("%q %v, want %q", b, err, want)
	}
	if ready, _ := s.Ready(); len(ready) > 0 {
		t.Errorf("and it is in the spool: %v", ready)
	}
}

func TestACrashOfTheHostGetsItsFile(t *testing.T) {
	_, _, done := listen(t, capture.Verdict{Action: capture.Keep}, "core.%s")
	for script, written := range map[string]bool{kerneltest.Die: true, "ulimit -c 0; kill -SEGV $$": false} {
		dir := kerneltest.Dir(t)
		if dumped := kerneltest.Crash(t, kerneltest.Shell(dir, script)); dumped != written {
			t.Errorf("%s: the kernel says dumped: %v", script, dumped)
		}
		<-done
		if written {
			whole(t, dir+"/core.11")
		} else if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%v", left)
		}
	}
}

func whole(t *testing.T, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := corefile.ReadHeader(bytes.NewReader(b)); err != nil || h.PromisedSize != int64(len(b)) {
		t.Errorf("%d bytes of %d: %v", len(b), h.PromisedSize, err)
	}
}
