// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package witness stands by while a dump is taken. As long as the crashed process is held, its container and its pod are still there: it finds
// out whose it is, has it judged, and collects what will be gone later.
package witness

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"example.io/coredump/pkg/bundle"
	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/capture/notify"
	"example.io/coredump/pkg/cgroup"
	"example.io/coredump/pkg/identity"
	"example.io/coredump/pkg/judge"
	"example.io/coredump/pkg/podcopy"
	"example.io/coredump/pkg/spool"
)

const (
	// collectTime bounds what is done for a crash beside the answer: asking again whose it is, and collecting the context.
	collectTime = 20 * time.Second
	// askAgain is the pause before who crashed is asked for again: the status of a container comes a moment after its start.
	askAgain = 200 * time.Millisecond
	// copyTime bounds the copy that a pod wants.
	copyTime = 10 * time.Minute
)

// Locator tells whose a container is; see identity.Locator.
type Locator interface {
	Locate(ctx context.Context, id cgroup.ID, at time.Time) (identity.Who, error)
}

// Teller is told what people should know. It must not block.
type Teller interface {
	// Judged is told of every verdict in a mode (pipe, socket), and how long it took.
	Judged(ctx context.Context, mode string, who identity.Who, d *judge.Decision, took time.Duration)
	// Copied is told how the copy that a pod wants went: where it is, or what was wrong.
	Copied(ctx context.Context, who identity.Who, path string, err error)
}

// Options are what a Witness works with.
type Options struct {
	Spool   *spool.Spool
	Locator Locator
	Judge   *judge.Judge
	// Gather gives the files of the context that come from Kubernetes and the runtime: what it could get, and why not the rest.
	Gather func(ctx context.Context, id cgroup.ID, who identity.Who) ([]bundle.File, error)
	Copier *podcopy.Copier
	Teller Teller
	// Finished is called when nothing is done any more for an entry, which then may be taken on.
	Finished func(entry string)
}

// Witness answers for the node handler. It implements notify.Handler. Safe for concurrent use.
type Witness struct {
	opts Options

	mu       sync.Mutex
	attended map[string]*attendance
	work     sync.WaitGroup
}

// attendance is one crash, from its verdict until nothing is left to do for it.
type attendance struct {
	crash    *notify.Crash
	who      identity.Who
	decision *judge.Decision
	// working is what it is done under, and cancel ends that.
	working context.Context
	cancel  context.CancelFunc
	// target is where a copy goes; nil where none is wanted or possible. Valid after prepared is closed.
	target   *podcopy.Target
	prepared chan struct{}
	// collected is closed when the entry gets no more files.
	collected chan struct{}
}

// New makes a witness.
func New(opts Options) *Witness {
	return &Witness{opts: opts, attended: map[string]*attendance{}}
}

// Attended tells whether something is still done for an entry, which should be left alone until then.
func (w *Witness) Attended(entry string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.attended[entry] != nil
}

// Wait returns when all work has ended that was going on. When ctx ends, so does the work: copies that are not complete then are given up. No crash
// may be judged any more.
func (w *Witness) Wait(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, a := range w.attended {
			a.cancel()
		}
	})
	defer stop()
	w.work.Wait()
}

// Judge says what is done with a dump.
func (w *Witness) Judge(ctx context.Context, crash *notify.Crash) capture.Verdict {
	start := time.Now()
	// Not ended by ctx: that lasts only as long as corepipe waits for the verdict.
	working, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a := &attendance{crash: crash, working: working, cancel: cancel, prepared: make(chan struct{}), collected: make(chan struct{})}
	// From now on, for corepipe may give up waiting at any moment, and have its entry in ready before the verdict is there.
	w.mu.Lock()
	w.attended[crash.Entry] = a
	w.mu.Unlock()
	who, err := w.locate(ctx, &crash.Meta)
	if err != nil {
		klog.FromContext(ctx).V(2).Info("It is not known yet whose a dump is", "entry", crash.Entry, "err", err)
	}
	a.who, a.decision = who, w.opts.Judge.Judge(Subject(who))
	w.opts.Teller.Judged(ctx, crash.Meta.Mode, who, a.decision, time.Since(start))
	switch known := err == nil; a.decision.Verdict.Action {
	case capture.Keep:
		w.work.Go(func() { w.prepare(a.working, a) })
		w.work.Go(func() { w.collect(working, a, known) })
	case capture.Drop:
		close(a.prepared)
		w.work.Go(func() { w.note(working, a, known) })
	default: // there will be no entry
		close(a.prepared)
		close(a.collected)
	}
	return a.decision.Verdict
}

// Ended is told that the dump has been taken. The descriptors of the crash are valid until it returns.
func (w *Witness) Ended(crash *notify.Crash) {
	w.mu.Lock()
	a := w.attended[crash.Entry]
	w.mu.Unlock()
	if a == nil {
		return
	}
	<-a.prepared // it uses the descriptors
	w.work.Go(func() {
		defer w.finish(crash.Entry)
		defer a.cancel()
		// Where nobody acted on the verdict, or the taker was killed, the dump is counted when its entry is in ready; see spool.Salvage.
		o := w.outcome(a.working, a)
		if o == nil || !o.Answered {
			a.decision.Forget()
		} else {
			a.decision.Done(*o)
		}
		w.copy(a.working, a, o)
		<-a.collected
	})
}

func (w *Witness) finish(entry string) {
	w.mu.Lock()
	delete(w.attended, entry)
	w.mu.Unlock()
	w.opts.Finished(entry)
}

// outcome is how the taking of the dump ended, nil where nobody said so.
func (w *Witness) outcome(ctx context.Context, a *attendance) *spool.Outcome {
	e, err := w.opts.Spool.Entry(a.crash.Entry)
	if err == nil {
		defer e.Close()
		var o *spool.Outcome
		if o, err = e.Outcome(); err == nil {
			return o
		}
	}
	if a.decision.Verdict.Action == capture.Forward && errors.Is(err, fs.ErrNotExist) {
		return &spool.Outcome{Answered: true} // as it should be
	}
	klog.FromContext(ctx).Info("The taker of a dump has not said how it ended; what there is of it will be finished", "entry", a.crash.Entry, "err", err)
	return nil
}

// errUnverified is returned for a process that was gone before everything about it had been read.
var errUnverified = errors.New("the process was gone before everything about it was read")

func (w *Witness) locate(ctx context.Context, m *spool.Meta) (identity.Who, error) {
	if !m.Verified {
		return identity.Who{}, errUnverified
	}
	id, err := cgroup.Parse(m.Cgroup)
	if err != nil {
		return identity.Who{}, err
	}
	return w.opts.Locator.Locate(ctx, id, time.Unix(0, m.CrashTime))
}

// Subject is who is judged. Names that nobody vouches for are none.
func Subject(who identity.Who) judge.Subject {
	if !who.Verified {
		return judge.Subject{}
	}
	s := judge.Subject{
		Namespace: who.Namespace, PodName: who.Pod, PodUID: who.PodUID,
		NamespaceLabels: who.NamespaceLabels, PodAnnotations: who.Annotations,
	}
	if who.Owner != nil {
		s.OwnerKind, s.OwnerName = who.Owner.Kind, who.Owner.Name
	}
	return s
}
