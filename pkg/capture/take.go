// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"example.io/coredump/pkg/corefile"
	"example.io/coredump/pkg/spool"
)

// Stream is where a core comes from: a pipe, a socket. *os.File and *net.UnixConn are ones.
type Stream interface {
	io.Reader
	// SetReadDeadline makes a Read that waits at that time fail with os.ErrDeadlineExceeded.
	SetReadDeadline(time.Time) error
	// Close lets the crashed process go. It may be called while Read waits, from another goroutine, and more than once.
	Close() error
}

// Job is one dump to be taken.
type Job struct {
	// Stream yields the core. Take closes it, as early as it can.
	Stream Stream
	// Entry gets the core. It belongs to the caller, who finishes it with the outcome.
	Entry  *spool.Writer
	Limits Limits
	// Verdict is Keep or Drop; Forward is for the caller. Answered says that it is the node handler's.
	Verdict  Verdict
	Answered bool
	// Started is when the handler of this crash began: hold times and the deadline count from here.
	Started time.Time
}

// Take reads a core from the kernel into its entry and tells how that ended. It never holds the process beyond Limits.Deadline, counted
// from Job.Started, nor longer than Limits.StallTimeout without a byte, not even while the spool's disk hangs: then
// the stream is closed by a watchdog, and Take itself returns when the disk does. A context that ends is like the writer being
// killed (spool.ReasonAbandoned).
//
// Memory: one buffer of 256 KiB and the head of the core as far as package corefile keeps it.
func Take(ctx context.Context, job Job) spool.Outcome {
	t := newTaking(job)
	t.take(ctx)
	t.release()
	t.outcome.HoldMicros = t.letGo.micros()
	return t.outcome
}

func newTaking(job Job) *taking {
	return &taking{
		Job:     job,
		outcome: spool.Outcome{Answered: job.Answered},
		head:    newHead(),
		create:  func() (coreFile, error) { return job.Entry.CreateCore() },
		limit:   job.Limits.maxSize(job.Verdict),
		reason:  spool.ReasonTooLarge,
	}
}

// take is Take without what is done at every end.
func (t *taking) take(ctx context.Context) {
	if t.Verdict.Action == Drop {
		t.suppress(t.Verdict.Reason)
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	deadline := t.Started.Add(t.Limits.Deadline)
	watchdog := time.AfterFunc(time.Until(deadline), func() { cancel(os.ErrDeadlineExceeded); t.release() })
	defer watchdog.Stop()
	stop := context.AfterFunc(ctx, t.release)
	defer stop()

	room, err := t.Entry.Spool().RoomFor(t.Limits.Spool, t.Entry.Name())
	if err != nil {
		t.fail(err)
	}
	if t.room = room.Bytes; t.room < MinRoom {
		t.suppress(spool.ReasonNoSpace)
		return
	}
	file, err := t.create()
	if err != nil {
		t.fail(err)
		t.suppress(spool.ReasonNoSpace)
		return
	}
	t.core = &sparse{file: file}
	t.end(ctx, t.copy(deadline))
	t.release()
	t.settle(file)
}

const (
	// chunkSize is how much is read before it is written. While that is written, the kernel fills the pipe (1 MiB, see F_SETPIPE_SZ in fcntl(2)), so both CPUs copy.
	chunkSize = 256 << 10
	// MinRoom is the least room, in bytes, for which it is worth to begin: with less, a dump is suppressed (spool.ReasonNoSpace).
	MinRoom = 4 << 20
	// roomEvery is after how many bytes written the room is looked at again: others write too.
	roomEvery = 64 << 20
)

// errLimit ends the reading where a limit is reached; the reason is in the outcome.
var errLimit = errors.New("limit reached")

// taking is the state of Take.
type taking struct {
	Job
	letGo   letGo
	outcome spool.Outcome
	head    head
	create  func() (coreFile, error)
	core    *sparse
	// room is how many bytes may be written, as of the last look, and written how many had been by then.
	room, written int64
	// limit is where the core is cut off, and reason why.
	limit  int64
	reason spool.Reason
	sized  bool // the promised size has been judged
	judged bool // and all else of the head
}

// release lets the process go, once, and notes when.
func (t *taking) release() { t.letGo.once(t.Stream, t.Started) }

func (t *taking) suppress(r spool.Reason) {
	t.outcome.Suppressed, t.outcome.Truncated = r, ""
}

func (t *taking) fail(err error) {
	if t.outcome.Error == "" {
		t.outcome.Error = err.Error()
	}
}

// copy reads until the stream ends (nil) or something else does.
func (t *taking) copy(deadline time.Time) error {
	buf := make([]byte, chunkSize)
	for n := 0; ; {
		// Pieces end where pages of the file do, or the page in between could not become a hole.
		whole := len(buf) - int(t.core.size%pageSize)
		m, err := t.read(buf[n:whole], deadline)
		n += m
		// The first piece goes on at once, for it may be the last that is wanted.
		if n == whole || err != nil || !t.judged {
			if werr := t.put(buf[:n]); werr != nil {
				return werr
			}
			n = 0
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (t *taking) read(b []byte, deadline time.Time) (int, error) {
	next := time.Now().Add(t.Limits.StallTimeout)
	if next.After(deadline) {
		next = deadline
	}
	if err := t.Stream.SetReadDeadline(next); err != nil {
		return 0, err
	}
	n, err := t.Stream.Read(b)
	if n > 0 && t.outcome.FirstByteMicros == 0 {
		t.outcome.FirstByteMicros = max(1, time.Since(t.Started).Microseconds())
	}
	return n, err
}

// put writes the next bytes of the core, up to its limit.
func (t *taking) put(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, _ = t.head.Write(b) // never fails
	if err := t.judge(); err != nil {
		return err
	}
	var reached error
	if left := t.limit - t.core.size; int64(len(b)) > left {
		b, reached = b[:max(0, left)], errLimit
		t.outcome.Truncated = t.reason
	}
	if err := t.core.write(b); err != nil {
		return &writeError{err}
	}
	if t.core.written-t.written > min(roomEvery, t.room) {
		if err := t.look(); err != nil {
			return err
		}
	}
	return reached
}

// look asks again how much room there is.
func (t *taking) look() error {
	room, err := t.Entry.Spool().RoomFor(t.Limits.Spool, t.Entry.Name())
	if err != nil {
		return &writeError{err}
	}
	t.room, t.written = room.Bytes, t.core.written
	if t.room == 0 {
		t.outcome.Truncated = spool.ReasonNoSpace
		return errLimit
	}
	return nil
}

// judge decides as soon as the head tells enough: before the kernel has to produce the rest.
func (t *taking) judge() error {
	if t.judged {
		return nil
	}
	if err := t.head.Err(); errors.Is(err, corefile.ErrNotCore) {
		t.fail(err)
		t.suppress(spool.ReasonNotCore)
		return errLimit
	}
	if promised := t.head.PromisedSize(); promised > 0 && !t.sized {
		t.sized = true
		switch {
		case promised > t.limit:
			t.cut(spool.ReasonTooLarge)
		case promised > t.room:
			t.cut(spool.ReasonNoSpace)
		}
	}
	if !t.head.HeadDone() {
		return nil
	}
	t.judged = true
	if site := t.head.Site(); site != "" && slices.Contains(t.Verdict.Sites, site) {
		t.suppress(spool.ReasonRepeated)
		return errLimit
	}
	return nil
}

// cut limits the core to its first bytes; what is kept holds at least the notes, as far as there is room for them at all.
func (t *taking) cut(reason spool.Reason) {
	t.limit = min(max(t.Limits.CutSize, t.head.HeadEnd()), t.limit, t.room)
	t.reason = reason
}

// end finds the reason for the end of the reading.
func (t *taking) end(ctx context.Context, err error) {
	var w *writeError
	switch {
	case err == nil || err == errLimit:
	case errors.As(err, &w):
		t.noSpaceOr(w.error)
	case context.Cause(ctx) == os.ErrDeadlineExceeded, time.Since(t.Started) >= t.Limits.Deadline:
		t.outcome.Truncated = spool.ReasonDeadline
	case ctx.Err() != nil:
		t.outcome.Truncated = spool.ReasonAbandoned
	case errors.Is(err, os.ErrDeadlineExceeded):
		t.outcome.Truncated = spool.ReasonStalled
	default:
		t.fail(err)
		t.outcome.Truncated = spool.ReasonReadError
	}
}

// settle completes outcome and file when nobody is held any more.
func (t *taking) settle(file coreFile) {
	o := &t.outcome
	o.PromisedSize = t.head.PromisedSize()
	o.Site = t.head.Site()
	if o.Suppressed == "" && t.core.size == 0 {
		t.suppress(emptyReason(o.Truncated))
	}
	if o.Suppressed != "" {
		o.Size = 0
		if err := errors.Join(file.Close(), t.Entry.RemoveCore()); err != nil {
			t.fail(err)
		}
		return
	}
	if err := t.core.end(); err != nil {
		t.noSpaceOr(err)
	}
	o.Size = t.core.size
	switch {
	case o.PromisedSize > 0 && o.Size >= o.PromisedSize:
		o.Truncated = "" // whatever happened after the last byte
	case o.Truncated == "":
		o.Truncated = spool.ReasonKilled // also where the head itself is cut, so that no size is promised
	}
	if err := file.Close(); err != nil {
		t.fail(err)
	}
}

// emptyReason is why there is no core where not a byte came.
func emptyReason(truncated spool.Reason) spool.Reason {
	if truncated != "" {
		return truncated
	}
	return spool.ReasonEmpty
}

// writeError is an error of the spool, not of the stream.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// noSpaceOr notes an error of writing. Whatever it is (ENOSPC, EDQUOT, EIO), the spool took no more.
func (t *taking) noSpaceOr(err error) {
	t.fail(err)
	t.outcome.Truncated = spool.ReasonNoSpace
}
