// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture"
)

// Conn is corepipe's end. It tells the node handler by being closed that the dump has been taken.
type Conn struct{ fd int }

// Close ends the connection.
func (c *Conn) Close() error { return unix.Close(c.fd) }

// Ask sends a request with descriptors (those of -1 are left out; pidfd first, and without it none) and waits for the verdict, at most timeout. It
// fails at once where nobody listens. After an error there may be a connection still: the node handler knows of the crash, and may only be
// slow. It uses the system calls themselves: package net would double the size of corepipe.
func Ask(socket string, req *capture.Request, pidfd, root int, timeout time.Duration) (*capture.Verdict, *Conn, error) {
	b, err := json.Marshal(req)
	if err != nil {
		return nil, nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	c := &Conn{fd}
	end := time.Now().Add(timeout)
	if err := c.send(socket, b, pidfd, root, end); err != nil {
		c.Close()
		return nil, nil, fmt.Errorf("tell the node handler: %w", err)
	}
	v, err := c.receive(end)
	if err != nil {
		return nil, c, fmt.Errorf("wait for the node handler: %w", err)
	}
	return v, c, nil
}

func (c *Conn) send(socket string, b []byte, pidfd, root int, end time.Time) error {
	if err := c.limit(unix.SO_SNDTIMEO, end); err != nil { // also connect(2)'s
		return err
	}
	if err := retry(func() error { return unix.Connect(c.fd, &unix.SockaddrUnix{Name: socket}) }); err != nil {
		return err
	}
	var fds []int
	for _, fd := range []int{pidfd, root} {
		if fd < 0 {
			break
		}
		fds = append(fds, fd)
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	return retry(func() error { return unix.Sendmsg(c.fd, b, rights, nil, unix.MSG_NOSIGNAL) })
}

func (c *Conn) receive(end time.Time) (*capture.Verdict, error) {
	buf := make([]byte, maxVerdict)
	for {
		if err := c.limit(unix.SO_RCVTIMEO, end); err != nil {
			return nil, err
		}
		n, _, flags, _, err := unix.Recvmsg(c.fd, buf, nil, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		case n == 0:
			return nil, errors.New("it ended the connection")
		case flags&unix.MSG_TRUNC != 0:
			return nil, fmt.Errorf("%w: a verdict of more than %d bytes", ErrMessage, maxVerdict)
		}
		return decodeVerdict(buf[:n])
	}
}

// limit makes calls on the socket fail with EAGAIN at that time.
func (c *Conn) limit(option int, end time.Time) error {
	// A timeout of 0 would be none.
	tv := unix.NsecToTimeval(int64(max(time.Millisecond, time.Until(end))))
	return unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, option, &tv)
}

// retry repeats what a signal interrupted; the Go runtime sends itself some.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
