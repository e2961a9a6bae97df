// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package witness stands by while a dump is taken. As long as the crashed process is held, its container and its pod are still there: it finds
// out whose it is, has it judged, and collects what will be gone later.
package witness

import (
	"context"
	"errors"
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
	// Finished is called when nothing is done any more for an entry.
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
	cancel   context.CancelFunc
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

// Wait returns when all work has ended that was going on. No crash may be judged any more.
func (w *Witness) Wait() { w.work.Wait() }

// Judge says what is done with a dump.
func (w *Witness) Judge(ctx context.Context, crash *notify.Crash) capture.Verdict {
	start := time.Now()
	who, err := w.locate(ctx, &crash.Meta)
	if err != nil {
		klog.FromContext(ctx).V(2).Info("It is not known yet whose a dump is", "entry", crash.Entry, "err", err)
	}
	a := &attendance{crash: crash, who: who, prepared: make(chan struct{}), collected: make(chan struct{})}
	a.decision = w.opts.Judge.Judge(Subject(who))
	w.opts.Teller.Judged(ctx, crash.Meta.Mode, who, a.decision, time.Since(start))
	if a.decision.Verdict.Action != capture.Keep {
		return a.decision.Verdict
	}
	// Not ended by ctx: that lasts only as long as corepipe waits for the verdict.
	collecting, cancel := context.WithTimeout(context.WithoutCancel(ctx), collectTime)
	a.cancel = cancel
	w.mu.Lock()
	w.attended[crash.Entry] = a
	w.mu.Unlock()
	w.work.Go(func() { w.prepare(collecting, a) })
	w.work.Go(func() { w.collect(collecting, a, err == nil) })
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
		ctx := context.Background()
		a.decision.Done(w.outcome(ctx, crash.Entry))
		w.copy(ctx, a)
		<-a.collected
	})
}

func (w *Witness) finish(entry string) {
	w.mu.Lock()
	delete(w.attended, entry)
	w.mu.Unlock()
	w.opts.Finished(entry)
}

// outcome is how the taking of the dump ended. Where its taker was killed, whatever there is will be finished by spool.Salvage.
func (w *Witness) outcome(ctx context.Context, entry string) spool.Outcome {
	e, err := w.opts.Spool.Entry(entry)
	if err == nil {
		defer e.Close()
		var o *spool.Outcome
		if o, err = e.Outcome(); err == nil {
			return *o
		}
	}
	klog.FromContext(ctx).Info("The taker of a dump ended without saying how", "entry", entry, "err", err)
	return spool.Outcome{Truncated: spool.ReasonAbandoned}
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
