// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package socketspool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/capture/forward"
	"example.io/coredump/pkg/capture/initns"
	"example.io/coredump/pkg/capture/socket"
	"example.io/coredump/pkg/corefile"
	"example.io/coredump/pkg/spool"
)

// maxPeek is how much of a core is read to learn the signal, in bytes: the first notes tell it.
const maxPeek = 1 << 20

// forward gives a crash to the handler that the host had before.
func (t *Taker) forward(ctx context.Context, crash *socket.Crash, process *capture.Process, meta *spool.Meta) error {
	pattern, err := forward.Parse(t.Config.Forward)
	kind := pattern.Kind()
	unwanted := kind != forward.ToProgram && kind != forward.ToFile || process == nil
	limit := uint64(math.MaxUint64)
	if meta.CoreLimit >= 0 {
		limit = uint64(meta.CoreLimit)
	}
	if kind == forward.ToFile && limit == 0 {
		unwanted = true // the usual case: not worth a byte
	}
	if err != nil || unwanted {
		return errors.Join(err, crash.Reject())
	}
	ctx, cancel := context.WithDeadline(ctx, crash.Connected.Add(time.Duration(t.Config.Deadline)))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { crash.Close() })
	defer stop()
	if err := crash.Accept(); err != nil {
		return err
	}
	stream := &peeked{Crash: crash}
	if meta.Signal == 0 {
		meta.Signal = stream.signal()
	}
	value := t.values(meta)
	if kind == forward.ToProgram {
		return forward.Program{Args: pattern.Args(value), PIDFD: crash.PIDFD, Namespaces: t.Namespaces}.Run(ctx, stream)
	}
	uses, _ := os.ReadFile("/proc/sys/kernel/core_uses_pid")
	_, err = forward.File{
		PID: process.PID(), Verify: process.Verify, Path: pattern.Path(value, strings.TrimSpace(string(uses)) == "1"),
		Dumpable: int(meta.Dumpable), Limit: limit, HostRoot: t.HostRoot,
	}.Write(stream)
	if errors.Is(err, forward.ErrNotWanted) {
		return nil
	}
	return err
}

// peeked is a crash of whose core the beginning has been read already.
type peeked struct {
	*socket.Crash
	head bytes.Reader
}

func (p *peeked) Read(b []byte) (int, error) {
	if p.head.Len() > 0 {
		return p.head.Read(b)
	}
	return p.Crash.Read(b)
}

// signal reads on until the core tells it; 0 where it does not.
func (p *peeked) signal() int32 {
	parser := corefile.NewParser()
	var head []byte
	buf := make([]byte, 64<<10)
	for len(head) < maxPeek && !parser.HeadDone() {
		n, err := p.Crash.Read(buf)
		_, _ = parser.Write(buf[:n]) // never fails
		if head = append(head, buf[:n]...); err != nil {
			break
		}
	}
	p.head.Reset(head)
	return parser.Facts().Signal
}

// values are what the kernel would put in the place of specifiers. Which thread crashed, and on which CPU, it does not tell a socket: the first thread, and 0.
func (t *Taker) values(m *spool.Meta) forward.Value {
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	host := ""
	_ = initns.DoAll(t.Namespaces, func() error { // the crashed process is the host's, so its name is the host's
		var u unix.Utsname
		err := unix.Uname(&u)
		host = unix.ByteSliceToString(u.Nodename[:])
		return err
	})
	values := map[byte]string{
		'P': number(m.HostPID), 'p': number(m.PID), 'I': number(m.HostPID), 'i': number(m.PID), 'u': number(m.UID), 'g': number(m.GID),
		's': number(int64(m.Signal)), 't': number(m.CrashTime / int64(time.Second)), 'd': number(int64(m.Dumpable)), 'C': "0", 'F': "3",
		'c': strconv.FormatUint(math.MaxUint64, 10), 'h': forward.Escape(host), 'e': forward.Escape(m.Comm),
		'f': forward.Escape(path.Base(m.Exe)), 'E': forward.Escape(m.Exe),
	}
	if m.CoreLimit >= 0 {
		values['c'] = number(m.CoreLimit)
	}
	return func(letter byte) string { return values[letter] }
}

var _ io.ReadCloser = (*peeked)(nil)
