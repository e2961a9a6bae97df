// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package taker takes the dumps of mode socket: it does inside the node handler what corepipe does on the host.
package taker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/capture/notify"
	"example.io/coredump/pkg/capture/socket"
	"example.io/coredump/pkg/cgroup"
	"example.io/coredump/pkg/spool"
)

// factsTimeout is how long the facts of the process may take; reading them can be made slow by the process.
const factsTimeout = time.Second

// Taker takes dumps. Its Handle is that of a socket.Server.
type Taker struct {
	Spool  *spool.Spool
	Config capture.Config
	// Judge answers for each dump, and is told of its end.
	Judge notify.Handler
	// Original gives the core_pattern that the host had before us, and Namespaces are those of the host, see initns.Dir: for crashes
	// that are no pod's, and dumps that the judge wants to be forwarded.
	Original   func() string
	Namespaces string
	// Forwarded is told of crashes that went to the host's own handler (optedOut: because the judge said so), Failed of what went wrong.
	Forwarded func(ctx context.Context, optedOut bool)
	Failed    func(ctx context.Context, err error)
}

// Handle takes one dump. The process is held until it returns, or longer than that by nothing.
func (t *Taker) Handle(ctx context.Context, crash *socket.Crash) {
	if err := t.handle(ctx, crash); err != nil {
		t.Failed(ctx, err)
	}
}

func (t *Taker) handle(ctx context.Context, crash *socket.Crash) error {
	m := &spool.Meta{
		Mode: "socket", BootID: spool.BootID(), Handler: t.Config.Version, HostPID: int64(crash.PID), UID: crash.UID, GID: crash.GID,
		Signal: crash.Signal, Dumpable: crash.Dumpable, CrashTime: crash.Connected.UnixNano(),
	}
	process, err := open(crash)
	if err == nil {
		defer process.Close()
		m.Comm = comm(process)
		m.Verified = process.Describe(m) == nil
	}
	if _, err := cgroup.Parse(m.Cgroup); m.Verified && errors.Is(err, cgroup.ErrNoPod) {
		t.Forwarded(ctx, false)
		return t.forward(ctx, crash, process, m)
	}
	return t.take(ctx, crash, process, m)
}

// open gives the process a pidfd of its own: the crash keeps the other.
func open(crash *socket.Crash) (*capture.Process, error) {
	fd, err := unix.FcntlInt(crash.PIDFD.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	return capture.OpenProcess(crash.PID, fd, crash.Connected)
}

// comm is the name of the process. That of the thread is in the notes.
func comm(p *capture.Process) string {
	b, err := p.Read("comm", 64)
	if err != nil || len(b) == 0 {
		return ""
	}
	return string(b[:len(b)-1])
}

// take brings the dump into the spool.
func (t *Taker) take(ctx context.Context, crash *socket.Crash, process *capture.Process, m *spool.Meta) error {
	limits := t.Config.Limits()
	if room, err := t.Spool.Room(limits.Spool); err != nil || !room.Entry {
		return errors.Join(fmt.Errorf("the dump of process %d is lost: the spool is full", m.HostPID), err, crash.Reject())
	}
	entry, err := t.Spool.Create(spool.NewName(m))
	if err == nil {
		err = entry.WriteMeta(m)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("the dump of process %d is lost: %w", m.HostPID, err), crash.Reject())
	}
	asked := &notify.Crash{Request: capture.Request{Entry: entry.Name(), Meta: *m}}
	if process != nil {
		t.facts(entry.Entry, crash)
		asked.PIDFD, asked.Root = borrow(process.PIDFD(), "pidfd"), borrow(process.Root(), "root")
		defer closeAll(asked.PIDFD, asked.Root)
	}
	judging, cancel := context.WithTimeout(ctx, time.Duration(t.Config.AnswerTimeout))
	verdict := t.Judge.Judge(judging, asked)
	cancel()
	defer t.Judge.Ended(asked)
	switch verdict.Action {
	case capture.Forward:
		t.Forwarded(ctx, true)
		return errors.Join(entry.Discard(), t.forward(ctx, crash, process, m))
	case capture.Drop:
		err = crash.Reject()
	default:
		err = crash.Accept()
	}
	outcome := spool.Outcome{Answered: true}
	if err == nil {
		outcome = capture.Take(ctx, capture.Job{Stream: crash, Entry: entry, Limits: limits, Verdict: verdict, Answered: true, Started: crash.Connected})
	} else {
		outcome.Suppressed, outcome.Error = spool.ReasonEmpty, err.Error()
	}
	return entry.Finish(outcome)
}

// facts writes down what /proc says of the process, as far as it says that in time. What is late uses descriptors of its own.
func (t *Taker) facts(e *spool.Entry, crash *socket.Crash) {
	p, err := open(crash)
	if err != nil {
		return // what is missing is missing: the context is no reason to lose the dump
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer p.Close()
		_ = capture.WriteFacts(e, p, t.Config.ProcFiles, t.Config.EnvironValues)
	}()
	select {
	case <-done:
	case <-time.After(factsTimeout):
	}
}

// borrow gives a descriptor as a file with a descriptor of its own, nil where there is none.
func borrow(fd int, name string) *os.File {
	if fd < 0 {
		return nil
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(own), name)
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
