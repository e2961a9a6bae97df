// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package taker

import (
	"context"
	"errors"
	"path"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/capture/forward"
	"example.io/coredump/pkg/capture/socket"
	"example.io/coredump/pkg/spool"
)

// forward gives a crash to the handler that the host had before us. Nothing of the dump has been read, and the kernel has no answer yet.
func (t *Taker) forward(ctx context.Context, crash *socket.Crash, process *capture.Process, m *spool.Meta) error {
	pattern, err := forward.Parse(t.Original())
	if err != nil || process == nil {
		return errors.Join(err, crash.Reject())
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(t.Config.Deadline))
	defer cancel()
	switch pattern.Kind() {
	case forward.ToProgram:
		args := pattern.Args(values(crash, m))
		if len(args) == 0 {
			return crash.Reject()
		}
		if err := crash.Accept(); err != nil {
			return err
		}
		err = forward.Program{Args: args, PIDFD: crash.PIDFD, Namespaces: t.Namespaces}.Run(ctx, crash)
	case forward.ToFile:
		file := forward.File{
			PID: crash.PID, Verify: process.Verify, Path: pattern.Path(values(crash, m), false), Dumpable: int(m.Dumpable),
			Limit: coreLimit(crash.PID), HostRoot: path.Dir(path.Clean(t.Namespaces)) + "/root",
		}
		if file.Path == "" {
			return crash.Reject()
		}
		if err := crash.Accept(); err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { crash.Close() })
		defer stop()
		_, err = file.Write(crash)
	default:
		return crash.Reject()
	}
	if errors.Is(err, forward.ErrNotWanted) {
		return nil
	}
	return err
}

// values are what the kernel would have expanded a pattern with; see core(5).
func values(crash *socket.Crash, m *spool.Meta) forward.Value {
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	exe := m.Exe
	if exe == "" {
		exe = m.Comm
	}
	return func(letter byte) string {
		switch letter {
		case 'P', 'I':
			return number(m.HostPID)
		case 'p', 'i':
			return number(m.PID)
		case 'F':
			return "3"
		case 'u':
			return number(m.UID)
		case 'g':
			return number(m.GID)
		case 's':
			return number(int64(m.Signal))
		case 't':
			return number(m.CrashTime / int64(time.Second))
		case 'd':
			return number(int64(m.Dumpable))
		case 'c':
			return strconv.FormatUint(coreLimit(crash.PID), 10)
		case 'h':
			var u unix.Utsname
			_ = unix.Uname(&u)
			return forward.Escape(unix.ByteSliceToString(u.Nodename[:]))
		case 'e':
			return forward.Escape(m.Comm)
		case 'f':
			return forward.Escape(path.Base(exe))
		case 'E':
			return forward.Escape(exe)
		}
		return ""
	}
}

// coreLimit is RLIMIT_CORE of a process in bytes, math.MaxUint64 for none.
func coreLimit(pid int) uint64 {
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_CORE, nil, &limit); err != nil {
		return 0
	}
	return limit.Cur
}
