// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture/forward"
	"example.io/coredump/pkg/cgroup"
)

// hosts tells whether the crashed process is certainly none of a pod. Where that is not clear, or where its cgroup could not be read, it may be a pod's:
// the dump goes into the spool, and is shown to nobody but administrators.
func (c *crash) hosts() bool {
	_, err := cgroup.Parse(c.meta.Cgroup)
	return c.meta.Verified && errors.Is(err, cgroup.ErrNoPod)
}

// forward gives the crash to the handler that the host had before, as the kernel would have. Nothing of the stream may have been read. Where there
// is none, the process is just let go.
func (c *crash) forward() error {
	pattern, err := forward.Parse(c.config.Forward)
	if err == nil {
		err = c.forwardTo(pattern)
	}
	if err != nil && !errors.Is(err, forward.ErrNotWanted) {
		return fmt.Errorf("the dump of process %d, which is no pod's, is lost: %w", c.args.HostPID, err)
	}
	return nil
}

func (c *crash) forwardTo(pattern forward.Pattern) error {
	switch pattern.Kind() {
	case forward.ToProgram:
		return forward.Exec(pattern.Args(c.args.Value)) // returns only an error
	case forward.ToFile:
		if c.process == nil {
			return forward.ErrNotWanted // its directory is gone with it
		}
		uses, _ := os.ReadFile("/proc/sys/kernel/core_uses_pid")
		f := forward.File{
			PID: c.process.PID(), Verify: c.process.Verify, HostRoot: "/", Dumpable: int(c.args.Dumpable), Limit: uint64(c.args.CoreLimit),
			Path: pattern.Path(c.args.Value, strings.TrimSpace(string(uses)) == "1"),
		}
		if c.args.CoreLimit < 0 {
			f.Limit = math.MaxUint64
		}
		_, _ = unix.FcntlInt(0, unix.F_SETPIPE_SZ, pipeSize)
		_, err := f.Write(c.stdin)
		return err
	}
	return nil // to nothing; a socket cannot be reached from here
}
