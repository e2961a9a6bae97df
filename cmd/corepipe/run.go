// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/capture/notify"
	"example.io/coredump/pkg/spool"
)

const (
	// pipeSize is what a pipe holds by default at most (fs.pipe-max-size); the kernel gives 64 KiB. It makes the kernel wait less often.
	pipeSize = 1 << 20
	// factsTimeout is how long the facts of the process may take; reading them can be made slow by the process.
	factsTimeout = time.Second
	// syncGrace is how long after the deadline the disk may take to have the dump. Nobody is held meanwhile.
	syncGrace = time.Minute
)

// crash is the one that corepipe was started for.
type crash struct {
	started time.Time
	config  *capture.Config
	args    *capture.Arguments
	process *capture.Process // nil where it is gone
	stdin   *os.File
	meta    spool.Meta
}

// run handles one crash. Its errors are about what could not even be noted in the spool.
func run(started time.Time, arguments []string) error {
	c := &crash{started: started}
	var err error
	// Nothing waits for the pipe for ever: not blocking, it can have deadlines.
	if err := unix.SetNonblock(0, true); err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	c.stdin = os.NewFile(0, "core")
	if c.args, err = capture.ParseArguments(arguments); err != nil {
		return err
	}
	// Also where a disk hangs before the first byte is read, be it the configuration's, which says the deadline.
	watchdog := time.AfterFunc(time.Duration(capture.DefaultConfig().Deadline), func() { c.stdin.Close() })
	if c.config, err = readConfig(); err != nil {
		return fmt.Errorf("the dump of process %d is lost: %w", c.args.HostPID, err)
	}
	watchdog.Reset(time.Until(started.Add(time.Duration(c.config.Deadline))))
	time.AfterFunc(time.Until(started.Add(time.Duration(c.config.Deadline)+syncGrace)), func() { os.Exit(1) })

	c.look()
	if c.hosts() {
		return c.forward()
	}
	return c.capture()
}

// readConfig reads the configuration beside the program.
func readConfig() (*capture.Config, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(filepath.Dir(exe), capture.ConfigFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, capture.MaxConfig))
	if err != nil {
		return nil, err
	}
	return capture.DecodeConfig(b)
}

// look takes hold of the process and fills in meta. Where the process is gone already, there is what the kernel said, and it is not verified.
func (c *crash) look() {
	a := c.args
	c.meta = spool.Meta{
		Mode: "pipe", BootID: spool.BootID(), Handler: version,
		HostPID: a.HostPID, HostTID: a.HostTID, PID: a.PID, TID: a.TID, UID: a.UID, GID: a.GID,
		Signal: a.Signal, Dumpable: a.Dumpable, CoreLimit: a.CoreLimit, CrashTime: a.Time * 1e9, Comm: a.Comm,
	}
	p, err := capture.OpenProcess(int(a.HostPID), a.PIDFD, time.Unix(a.Time, 0))
	if err != nil {
		return
	}
	c.process = p
	c.meta.Verified = p.Describe(&c.meta) == nil
}

// capture takes the dump into the spool.
func (c *crash) capture() error {
	s, err := spool.Open(c.config.Spool)
	if err != nil {
		return fmt.Errorf("the dump of process %d is lost: %w", c.args.HostPID, err)
	}
	limits := c.config.Limits()
	name := spool.NewName(&c.meta)
	room, err := s.RoomFor(limits.Spool, name)
	if err == nil && !room.Entry {
		err = errors.New("the spool is full")
	}
	var entry *spool.Writer
	if err == nil {
		entry, err = s.Create(name)
	}
	if err == nil {
		if err = entry.WriteMeta(&c.meta); err != nil {
			err = errors.Join(err, entry.Discard())
		}
	}
	if err != nil {
		c.stdin.Close() // nobody is held for the counting
		return errors.Join(fmt.Errorf("the dump of process %d is lost: %w", c.args.HostPID, err), s.Lost())
	}
	job := capture.Job{Stream: c.stdin, Entry: entry, Limits: limits, Started: c.started, Verdict: capture.Verdict{Action: capture.Keep}}
	release, ok, err := s.Slot(c.config.MaxConcurrent)
	if ok {
		defer release() // it must stay in use until the end: else the garbage collector gives the slot away
	}
	switch {
	case err == nil && !ok:
		job.Verdict = capture.Verdict{Action: capture.Drop, Reason: spool.ReasonConcurrency}
	default:
		c.facts(entry.Entry)
		conn := c.ask(s, &job)
		if conn != nil {
			defer conn.Close() // after Finish: its end tells that the entry is ready
		}
		if job.Verdict.Action == capture.Forward {
			if err := entry.Discard(); err != nil {
				complain(err)
			}
			return c.forward()
		}
		// The kernel's own limit of pipes does not hold for root. Less speed is all that is lost where it fails.
		_, _ = unix.FcntlInt(0, unix.F_SETPIPE_SZ, pipeSize)
	}
	return entry.Finish(capture.Take(context.Background(), job))
}

// facts writes what /proc tells of the process. It does not wait for it longer than a moment: what comes later still gets into the entry.
func (c *crash) facts(e *spool.Entry) {
	if c.process == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// What is missing is missing: the context is no reason to lose the dump.
		_ = capture.WriteFacts(e, c.process, c.config.ProcFiles, c.config.EnvironValues)
	}()
	select {
	case <-done:
	case <-time.After(factsTimeout):
	}
}

// ask gets the node handler's verdict into the job, where there is a node handler.
func (c *crash) ask(s *spool.Spool, job *capture.Job) *notify.Conn {
	if c.config.AnswerTimeout == 0 {
		return nil
	}
	pidfd, root := -1, -1
	if c.process != nil {
		pidfd, root = c.process.PIDFD(), c.process.Root()
	}
	verdict, conn, err := notify.Ask(s.SocketPath(), &capture.Request{Entry: job.Entry.Name(), Meta: c.meta}, pidfd, root, time.Duration(c.config.AnswerTimeout))
	if err == nil {
		job.Verdict, job.Answered = *verdict, true
	}
	return conn // an error is in the outcome: not answered
}
