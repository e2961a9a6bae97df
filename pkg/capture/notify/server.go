// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/spool"
)

// Crash is one that is being taken now.
type Crash struct {
	capture.Request
	// PIDFD is one of the crashed process, Root an O_PATH descriptor of its root directory; nil where there is none. They are the
	// server's, and valid until Handler.Ended returns.
	PIDFD, Root *os.File
}

// Handler is the node handler's part. Both methods are called from many goroutines.
type Handler interface {
	// Judge says what is done with the dump. The process is held meanwhile, and corepipe does not wait for long: what takes longer than
	// ctx lasts goes on elsewhere. The context ends with the connection, or after Server.Answer.
	Judge(ctx context.Context, crash *Crash) capture.Verdict
	// Ended is told, after Judge has returned, that the dump has been taken or never will be: the entry is in ready, or waits
	// for spool.Salvage.
	Ended(crash *Crash)
}

// Server listens for crashes. The zero value with a Handler is usable.
type Server struct {
	Handler Handler
	// Answer is how long Judge may take; 0: 1 s.
	Answer time.Duration
	// Concurrent is how many crashes are judged at once; more are turned away, and taken by corepipe alone. 0: 64.
	Concurrent int
	// Failed is told of connections that went wrong; nil: nobody is.
	Failed func(error)

	slots chan struct{}
	conns sync.WaitGroup
}

// requestTimeout is how long a client may take to say what it wants.
const requestTimeout = 2 * time.Second

// Listen makes the socket in the spool, with mode 0600, in place of one that is there. The caller, who is the only node handler of the
// spool, gives it to Serve.
func Listen(s *spool.Spool) (*net.UnixListener, error) {
	path := s.SocketPath()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen in the spool: %w", err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("listen in the spool: %w", err)
	}
	l.SetUnlinkOnClose(false) // by then the name may be a successor's
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen in the spool: %w", err)
	}
	return l, nil
}

// Serve answers until the context ends, and then closes the listener and all connections and waits for their handlers. It returns an error
// only where it could not go on.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	if s.Answer == 0 {
		s.Answer = time.Second
	}
	if s.Concurrent == 0 {
		s.Concurrent = 64
	}
	s.slots = make(chan struct{}, s.Concurrent)
	ctx, cancel := context.WithCancel(ctx)
	defer s.conns.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		c, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ECONNABORTED), errors.Is(err, unix.ENOMEM):
			s.failed(err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		case err != nil:
			l.Close()
			return fmt.Errorf("accept: %w", err)
		}
		select {
		case s.slots <- struct{}{}:
			s.conns.Go(func() {
				defer func() { <-s.slots }()
				if err := s.serve(ctx, c); err != nil {
					s.failed(err)
				}
			})
		default:
			c.Close()
			s.failed(errors.New("a crash was turned away: too many at once"))
		}
	}
}

func (s *Server) failed(err error) {
	if s.Failed != nil {
		s.Failed(err)
	}
}

// serve is one connection.
func (s *Server) serve(ctx context.Context, c *net.UnixConn) error {
	defer c.Close()
	if err := isRoot(c); err != nil {
		return err
	}
	crash, err := receive(c)
	if err != nil {
		return fmt.Errorf("read a request: %w", err)
	}
	defer crash.close()

	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer cancel()
		awaitEnd(c)
	}()
	defer func() { c.Close(); <-ended }()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer s.Handler.Ended(crash)

	judging, done := context.WithTimeout(ctx, s.Answer)
	verdict := s.Handler.Judge(judging, crash)
	done()
	b, err := json.Marshal(verdict)
	if err == nil && len(b) > maxVerdict {
		err = fmt.Errorf("a verdict of %d bytes", len(b))
	}
	if err == nil {
		err = c.SetWriteDeadline(time.Now().Add(requestTimeout))
	}
	if err == nil {
		_, err = c.Write(b)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("answer a request: %w", err)
	}
	<-ended // nobody answers for corepipe: it ends, or is ended by its own deadline
	return nil
}

// awaitEnd returns when the peer has closed its end. It says nothing more before.
func awaitEnd(c *net.UnixConn) {
	if c.SetReadDeadline(time.Time{}) != nil {
		return
	}
	_, _ = c.Read(make([]byte, 1))
}

// isRoot is the second line: the directory of the socket is root's alone.
func isRoot(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); e != nil {
		return e
	}
	if err != nil {
		return err
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("a connection by user %d: only root may", cred.Uid)
	}
	return nil
}

func receive(c *net.UnixConn) (*Crash, error) {
	if err := c.SetReadDeadline(time.Now().Add(requestTimeout)); err != nil {
		return nil, err
	}
	buf := make([]byte, maxRequest)
	oob := make([]byte, unix.CmsgSpace(4*maxDescriptors))
	n, m, flags, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, err
	}
	files, err := descriptors(oob[:m])
	crash := &Crash{}
	if len(files) > 0 {
		crash.PIDFD = files[0]
	}
	if len(files) > 1 {
		crash.Root = files[1]
	}
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = fmt.Errorf("%w: it is too long", ErrMessage)
	}
	if err == nil {
		var req *capture.Request
		if req, err = decodeRequest(buf[:n]); err == nil {
			crash.Request = *req
			return crash, nil
		}
	}
	crash.close()
	return nil, err
}

// descriptors takes over the descriptors of a message; net receives them close-on-exec. The kernel passes no more than there is room for.
func descriptors(oob []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // something else
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, nil
}

func (c *Crash) close() {
	for _, f := range []*os.File{c.PIDFD, c.Root} {
		if f != nil {
			f.Close()
		}
	}
}
