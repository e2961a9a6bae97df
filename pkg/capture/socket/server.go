// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package socket takes crashes from the kernel over an AF_UNIX socket (core_pattern @@/path, Linux 6.17): the kernel asks about each crash, so that one that is
// not wanted costs nothing, and it tells by a pidfd which process it is. It imports nothing of Kubernetes.
package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture/rlimit"
)

// Refusal says in a word why a connection did not get as far as the handler. It is the value of a metric's label.
type Refusal string

// The refusals.
const (
	RefusedForged    Refusal = "forged"    // it does not come from the kernel
	RefusedProtocol  Refusal = "protocol"  // the kernel's request was not understood, or did not come
	RefusedBusy      Refusal = "busy"      // too many crashes at once
	RefusedLimit     Refusal = "limit"     // RLIMIT_CORE is 1: the process wants no dump, or is a handler of dumps itself
	RefusedShutdown  Refusal = "shutdown"  // the server ends
	RefusedUndecided Refusal = "undecided" // the handler returned without an answer
)

// Refusals are all of them.
var Refusals = []Refusal{RefusedForged, RefusedProtocol, RefusedBusy, RefusedLimit, RefusedShutdown, RefusedUndecided}

// Server answers the kernel.
type Server struct {
	// Handle is called for each crash, each in a goroutine of its own. It calls Reject or Accept; when it returns the crash is closed, so the
	// process goes on to its end. Its context is that of Serve.
	Handle func(ctx context.Context, crash *Crash)
	// Refused is told of connections that were refused, and why; it must be quick and safe for concurrent use.
	Refused func(why Refusal, err error)
	// Concurrent is how many crashes are handled at once, Waiting how many more wait for that, held, and each no longer than WaitTimeout.
	Concurrent, Waiting int
	WaitTimeout         time.Duration
	// Handshake is how long the kernel may take for each of its steps.
	Handshake time.Duration
}

// Serve accepts connections until ctx ends, and returns when the last crash has been handled; that is then nil. It closes the listener.
func (s *Server) Serve(ctx context.Context, l *Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	var running sync.WaitGroup
	defer running.Wait()
	defer func() {
		if stop() {
			l.Close()
		}
	}()
	places, handlers := make(chan struct{}, s.Concurrent+s.Waiting), make(chan struct{}, s.Concurrent)
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			switch {
			case ctx.Err() != nil:
				return nil
			case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ECONNABORTED), errors.Is(err, unix.ENOMEM):
				// It passes; until then the kernel's connections wait in the backlog.
				select {
				case <-ctx.Done():
				case <-time.After(50 * time.Millisecond):
				}
				continue
			}
			return fmt.Errorf("accept a crash: %w", err)
		}
		select {
		case places <- struct{}{}:
			running.Go(func() {
				defer func() { <-places }()
				s.serve(ctx, conn, handlers)
			})
		default:
			// Not even asked who it is: a close ends the dump at once.
			s.Refused(RefusedBusy, fmt.Errorf("%d crashes are being handled or wait for that", cap(places)))
			conn.Close()
		}
	}
}

// serve brings one connection to the handler.
func (s *Server) serve(ctx context.Context, conn *net.UnixConn, handlers chan struct{}) {
	defer conn.Close()
	connected := time.Now()
	info, pidfd, err := peer(conn)
	if err != nil {
		s.Refused(RefusedForged, err)
		return
	}
	defer pidfd.Close()
	if err := conn.SetDeadline(connected.Add(s.Handshake)); err != nil {
		s.Refused(RefusedProtocol, err)
		return
	}
	request, err := readRequest(conn)
	if err != nil {
		s.Refused(RefusedProtocol, err)
		return
	}
	crash := &Crash{
		PID: int(info.Tgid), PIDFD: pidfd, UID: -1, GID: -1, Dumpable: 1, Connected: connected,
		conn: conn, offer: request.mask, timeout: s.Handshake,
	}
	if info.Mask&infoCreds != 0 {
		crash.UID, crash.GID = int64(info.Ruid), int64(info.Rgid)
	}
	if info.Mask&infoSignal != 0 {
		crash.Signal = int32(info.CoredumpSignal)
	}
	if info.CoredumpMask&coredumpRootOnly != 0 {
		crash.Dumpable = 2
	}
	defer crash.Close()
	if why, err := s.admit(ctx, crash, handlers); err != nil {
		s.Refused(why, errors.Join(err, crash.Reject()))
		return
	}
	defer func() { <-handlers }()
	s.Handle(ctx, crash)
	if !crash.answered {
		s.Refused(RefusedUndecided, crash.Reject())
	}
}

// admit waits for a handler that is free.
func (s *Server) admit(ctx context.Context, crash *Crash, handlers chan struct{}) (Refusal, error) {
	// The kernel does so for programs (fs/coredump.c), but not for sockets. It ends the circle of a handler whose crash would be handled by itself.
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", crash.PID))
	if limit, ok := rlimit.Soft(limits, rlimit.Core); err == nil && ok && limit == 1 {
		return RefusedLimit, errors.New("RLIMIT_CORE of the process is 1")
	}
	timer := time.NewTimer(s.WaitTimeout)
	defer timer.Stop()
	select {
	case handlers <- struct{}{}:
	case <-timer.C:
		return RefusedBusy, fmt.Errorf("it waited for %v", s.WaitTimeout)
	case <-ctx.Done():
		return RefusedShutdown, ctx.Err()
	}
	if ctx.Err() != nil {
		<-handlers
		return RefusedShutdown, ctx.Err()
	}
	return "", nil
}
