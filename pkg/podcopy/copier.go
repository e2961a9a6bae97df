// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package podcopy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bound what copies may cost.
type Limits struct {
	// MaxSize is the largest core that is copied, in bytes, holes counted.
	MaxSize int64
	// FreePercent of the target's file system stay free, beside the copy.
	FreePercent int
	// Preparing and Writing bound how many of each are under way. What does not end at its deadline counts until it ends.
	Preparing, Writing int
}

// Copier makes copies. Safe for concurrent use.
type Copier struct {
	limits             Limits
	preparing, writing chan struct{}
	hung               atomic.Int64
	// The rest is changed by tests alone.
	memory, nameless bool
	sync             func(fd int) error
}

// New makes a copier.
func New(l Limits) *Copier {
	return &Copier{
		limits: l, preparing: make(chan struct{}, l.Preparing), writing: make(chan struct{}, l.Writing),
		nameless: true, sync: unix.Fsync,
	}
}

// Hung is how many operations were abandoned and still wait for a file system.
func (c *Copier) Hung() int { return int(c.hung.Load()) }

// Errors of copies, beside *Refusal and those of the file system.
var (
	// ErrBusy is returned where too many copies are under way, or hang.
	ErrBusy = errors.New("too many copies are under way")
	// ErrHung is returned where a file system did not answer in time. The operation was abandoned.
	ErrHung = errors.New("the file system does not answer")
	// ErrNoSpace is returned where the copy would not leave enough room.
	ErrNoSpace = errors.New("not enough room")
	// ErrTooLarge is returned where the core is too large to be copied.
	ErrTooLarge = errors.New("the core is too large to be copied")
	// ErrExists is returned where the name is taken already. What is there was not touched.
	ErrExists = errors.New("the file exists")
)

// Kinds of errors, in a word: values of a metric's label.
const (
	ReasonRefused  = "refused"
	ReasonBusy     = "busy"
	ReasonHung     = "hung"
	ReasonNoSpace  = "no-space"
	ReasonTooLarge = "too-large"
	ReasonExists   = "exists"
	ReasonDeadline = "deadline"
	ReasonFailed   = "failed"
)

// kinds of errors; of one that is of several, the first counts.
var kinds = []struct {
	err  error
	word string
}{
	{ErrBusy, ReasonBusy}, {ErrHung, ReasonHung}, {ErrNoSpace, ReasonNoSpace}, {unix.ENOSPC, ReasonNoSpace}, {unix.EDQUOT, ReasonNoSpace},
	{ErrTooLarge, ReasonTooLarge}, {ErrExists, ReasonExists}, {context.DeadlineExceeded, ReasonDeadline}, {context.Canceled, ReasonDeadline},
}

// Reason gives the kind of an error in a word, for metrics.
func Reason(err error) string {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return ReasonRefused
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.word
		}
	}
	return ReasonFailed
}

// Reasons are all that Reason gives.
var Reasons = []string{ReasonRefused, ReasonBusy, ReasonHung, ReasonNoSpace, ReasonTooLarge, ReasonExists, ReasonDeadline, ReasonFailed}

// Target is a directory in a container where a copy can be written. It keeps the file system in use, so it is
// written to or closed soon.
type Target struct {
	copier *Copier
	owner  Owner
	// dir is an O_PATH descriptor; nil once the target is used up.
	dir        atomic.Pointer[os.File]
	path, name string
}

// Path is where the copy goes, in the container's own view. It is printable ASCII.
func (t *Target) Path() string { return join(t.path, t.name) }

func join(dir, name string) string {
	if dir == "/" {
		return dir + name
	}
	return dir + "/" + name
}

// Close gives up a target that is not written to. It can be called at any time, and more than once.
func (t *Target) Close() {
	if dir := t.dir.Swap(nil); dir != nil {
		dir.Close()
	}
}

// Prepare opens the directory of the pattern while the process lives: afterwards, its mounts are gone. root is an O_PATH descriptor of the
// root directory of the process, which stays the caller's. dumpable is %d of core(5): processes that have rights which
// their user has not (2) get no copy. The caller writes to the target or closes it. It returns when ctx ends at the latest.
func (c *Copier) Prepare(ctx context.Context, root *os.File, pattern string, v Values, o Owner, dumpable int32) (*Target, error) {
	p, err := ParsePattern(pattern)
	if err != nil {
		return nil, err
	}
	if dumpable == 2 {
		return nil, refuse("the process had more rights than its user (setuid, capabilities): a dump of it is not copied into the container")
	}
	t := &Target{copier: c, owner: o, path: p.dir}
	if t.name, err = p.expand(&v); err != nil {
		return nil, err
	}
	// A descriptor of our own: after a deadline it is used for longer than the caller's lives.
	fd, err := unix.FcntlInt(root.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("prepare a copy: %w", err)
	}
	own := os.NewFile(uintptr(fd), "root")
	err = c.run(ctx, c.preparing, 0, func() error {
		defer own.Close()
		return as(o, func() error { return t.open(int(own.Fd())) })
	}, func() { own.Close() }, t.Close)
	if err != nil {
		return nil, fmt.Errorf("prepare a copy at %s: %w", t.Path(), err)
	}
	return t, nil
}

// run calls f in a goroutine that is abandoned when ctx has ended for longer than grace. refused is called where f is not,
// and abandoned after f has ended at last.
func (c *Copier) run(ctx context.Context, slots chan struct{}, grace time.Duration, f func() error, refused, abandoned func()) error {
	select {
	case slots <- struct{}{}:
	default:
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			refused()
			return ErrBusy
		}
	}
	done, gone := make(chan error), make(chan struct{})
	go func() {
		defer func() { <-slots }()
		err := f()
		select {
		case done <- err:
		case <-gone:
			c.hung.Add(-1)
			abandoned()
		}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		c.hung.Add(1)
		close(gone)
		return fmt.Errorf("%w: %w", ErrHung, context.Cause(ctx))
	}
}
