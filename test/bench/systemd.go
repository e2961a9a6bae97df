// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

const (
	// systemdCoredump is where hack/install-deps.sh unpacks Debian's package; it is not installed, for that would make it the handler of this machine.
	systemdCoredump = "_output/systemd-coredump/lib/systemd/systemd-coredump"
	// systemdPattern are the arguments in the package's own 50-coredump.conf.
	systemdPattern = "%P %u %g %s %t 9223372036854775808 %h %d"
	// systemdSocket is where it gives the dump, after it has looked at the process, to a second instance, which compresses it into systemdDumps.
	systemdSocket = "/run/systemd/coredump"
	systemdDumps  = "/var/lib/systemd/coredump"
)

// systemd is systemd-coredump as Debian configures it: zstd, in a file, and a look at the stack where libdw is installed. Where systemd is not there to start the
// second instance for every connection, as systemd-coredump.socket says, this does.
type systemd struct {
	listener *net.UnixListener
	before   map[string]bool
	served   sync.WaitGroup
	failed   error
}

func startSystemd() (*systemd, error) {
	program, err := filepath.Abs(systemdCoredump)
	if err == nil {
		_, err = os.Stat(program)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: hack/install-deps.sh bench", err)
	}
	s := &systemd{before: map[string]bool{}}
	for _, name := range storedBySystemd() {
		s.before[name] = true
	}
	if _, err := os.Lstat(systemdSocket); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(systemdSocket), 0o755); err != nil {
			return nil, err
		}
		if s.listener, err = net.ListenUnix("unixpacket", &net.UnixAddr{Name: systemdSocket, Net: "unixpacket"}); err != nil {
			return nil, err
		}
		s.served.Go(func() { s.failed = s.serve(program) })
	}
	if err := setPattern("|" + program + " " + systemdPattern); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// serve runs the program for every connection, as a unit with Accept=yes: see sd_listen_fds(3).
func (s *systemd) serve(program string) error {
	for {
		connection, err := s.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		} else if err != nil {
			return err
		}
		file, err := connection.File()
		connection.Close()
		if err != nil {
			return err
		}
		cmd := exec.Command("/bin/sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec /usr/bin/nice -n -20 "$0"`, program)
		cmd.ExtraFiles = []*os.File{file}
		out, err := cmd.CombinedOutput()
		file.Close()
		if err != nil {
			return fmt.Errorf("systemd-coredump: %w: %s", err, out)
		}
	}
}

func storedBySystemd() []string {
	names, _ := filepath.Glob(systemdDumps + "/core.*")
	return names
}

func (*systemd) prefer(int) error { return nil }

// finished sees that it has stored what it took.
func (s *systemd) finished(_ context.Context, n int) error {
	if stored := len(storedBySystemd()) - len(s.before); stored < n {
		return fmt.Errorf("systemd-coredump has stored %d dumps of %d", stored, n)
	}
	return nil
}

// stop removes what it stored.
func (s *systemd) stop() error {
	var errs []error
	if s.listener != nil {
		errs = append(errs, s.listener.Close()) // and removes the socket
		s.served.Wait()
		errs = append(errs, s.failed)
	}
	for _, name := range storedBySystemd() {
		if !s.before[name] {
			errs = append(errs, os.Remove(name))
		}
	}
	return errors.Join(errs...)
}
