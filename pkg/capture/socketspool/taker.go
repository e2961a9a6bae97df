// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package socketspool is mode socket as a whole: what corepipe does in a process of its own, done in that of the node handler. Crashes from the kernel's socket
// go into the spool, or to the handler that the host had before.
package socketspool

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/capture/notify"
	"example.io/coredump/pkg/capture/rlimit"
	"example.io/coredump/pkg/capture/socket"
	"example.io/coredump/pkg/cgroup"
	"example.io/coredump/pkg/spool"
)

// factsTimeout is how long the facts of the process may take; reading them can be made slow by the process.
const factsTimeout = time.Second

// Taker takes crashes. Its method Handle is a socket.Server's.
type Taker struct {
	// Spool is where dumps go; it stays the caller's.
	Spool *spool.Spool
	// Config is what corepipe would get: limits, facts, and where crashes go that are no pod's. How many are taken at once is the server's affair.
	Config *capture.Config
	// Handler judges, as it does for corepipe.
	Handler notify.Handler
	// Namespaces are those of the host's first process (see initns.Dir), HostRoot its root directory: "/proc/1/root".
	Namespaces, HostRoot string
	// Forwarded is told of each crash that is no pod's; safe for concurrent use. nil: nobody is.
	Forwarded func()
	// Failed is told what went wrong with one crash; safe for concurrent use.
	Failed func(error)
}

// Handle takes one crash.
func (t *Taker) Handle(ctx context.Context, crash *socket.Crash) {
	if err := t.handle(ctx, crash); err != nil {
		t.Failed(fmt.Errorf("the dump of process %d: %w", crash.PID, err))
	}
}

func (t *Taker) handle(ctx context.Context, crash *socket.Crash) error {
	pidfd, err := unix.FcntlInt(crash.PIDFD.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return errors.Join(err, crash.Reject())
	}
	process, meta := t.look(crash, pidfd)
	if process != nil {
		defer process.Close()
	}
	if _, err := cgroup.Parse(meta.Cgroup); meta.Verified && errors.Is(err, cgroup.ErrNoPod) {
		if t.Forwarded != nil {
			t.Forwarded()
		}
		return t.forward(ctx, crash, process, meta)
	}
	entry, err := t.entry(meta)
	if err != nil {
		return errors.Join(err, crash.Reject())
	}
	facts := t.facts(entry.Entry, process)
	request := &notify.Crash{Request: capture.Request{Entry: entry.Name(), Meta: *meta}, PIDFD: crash.PIDFD}
	if process != nil && process.Root() >= 0 {
		if fd, err := unix.FcntlInt(uintptr(process.Root()), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			request.Root = os.NewFile(uintptr(fd), "root")
			defer request.Root.Close()
		}
	}
	defer t.Handler.Ended(request)
	job := capture.Job{Stream: crash, Entry: entry, Limits: t.Config.Limits(), Started: crash.Connected}
	job.Verdict, job.Answered = t.judge(ctx, request)
	switch job.Verdict.Action {
	case capture.Forward:
		err = t.forward(ctx, crash, process, meta)
		crash.Close()
		<-facts
		return errors.Join(err, entry.Discard())
	case capture.Drop:
		err = crash.Reject()
	default:
		err = crash.Accept()
	}
	outcome := capture.Take(ctx, job)
	<-facts // the process is let go, so nothing that it arranged holds them up any more
	return errors.Join(err, entry.Finish(outcome))
}

// look tells what is known of the crashed process, which is nil where it is gone already. The pidfd becomes its.
func (t *Taker) look(crash *socket.Crash, pidfd int) (*capture.Process, *spool.Meta) {
	meta := &spool.Meta{
		Mode: "socket", BootID: spool.BootID(), Handler: t.Config.Version,
		HostPID: int64(crash.PID), UID: crash.UID, GID: crash.GID, Signal: crash.Signal, Dumpable: crash.Dumpable, CrashTime: crash.Connected.UnixNano(),
	}
	process, err := capture.OpenProcess(crash.PID, pidfd, crash.Connected)
	if err != nil {
		return nil, meta
	}
	comm, _ := process.Read("comm", 64)
	meta.Comm = strings.TrimSuffix(string(comm), "\n")
	limits, _ := process.Read("limits", rlimit.MaxFile)
	if limit, ok := rlimit.Soft(limits, rlimit.Core); ok {
		if meta.CoreLimit = -1; limit <= math.MaxInt64 {
			meta.CoreLimit = int64(limit)
		}
	}
	meta.Verified = process.Describe(meta) == nil
	return process, meta
}

func (t *Taker) entry(meta *spool.Meta) (*spool.Writer, error) {
	name := spool.NewName(meta)
	room, err := t.Spool.RoomFor(t.Config.Limits().Spool, name)
	if err != nil {
		return nil, err
	}
	if !room.Entry {
		return nil, errors.New("the spool is full")
	}
	entry, err := t.Spool.Create(name)
	if err != nil {
		return nil, err
	}
	if err := entry.WriteMeta(meta); err != nil {
		return nil, errors.Join(err, entry.Discard())
	}
	return entry, nil
}

// facts writes what /proc tells of the process. It waits for that for a moment only; the channel is closed when all is written.
func (t *Taker) facts(entry *spool.Entry, process *capture.Process) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if process != nil {
			_ = capture.WriteFacts(entry, process, t.Config.ProcFiles, t.Config.EnvironValues) // what is missing is missing
		}
	}()
	select {
	case <-done:
	case <-time.After(factsTimeout):
	}
	return done
}

// judge asks the handler, for no longer than corepipe would.
func (t *Taker) judge(ctx context.Context, request *notify.Crash) (v capture.Verdict, answered bool) {
	ctx, cancel := context.WithTimeout(ctx, max(time.Duration(t.Config.AnswerTimeout), time.Millisecond))
	defer cancel()
	if v = t.Handler.Judge(ctx, request); v.Action == "" {
		return capture.Verdict{Action: capture.Keep}, false
	}
	return v, true
}
