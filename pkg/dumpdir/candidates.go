// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package dumpdir

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"time"

	"k8s.io/klog/v2"

	"example.io/coredump/pkg/upload"
)

// note has a name looked at after the delay, if it is one of the template.
func (w *Watcher) note(ctx context.Context, name string, delay time.Duration) {
	if _, ok := w.rules.Template.Match(path.Base(name)); !ok {
		w.report.left(klog.FromContext(ctx), name, ignored)
		return
	}
	due := time.Now().Add(delay)
	w.mu.Lock()
	c := w.waiting[name]
	switch {
	case c != nil && (c.checking || c.due.After(due)):
		c.due, c.checking = due, false
	case c == nil && len(w.waiting) < maxWaiting:
		w.waiting[name] = &candidate{due: due, wait: poll}
		unfinished.Set(float64(len(w.waiting)))
	}
	w.mu.Unlock()
	w.wakeUp()
}

func (w *Watcher) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// recheck has a file looked at again whose upload was aborted because it changed.
func (w *Watcher) recheck(name string) {
	n, _ := w.aborted.Get(name)
	times, _ := n.(int)
	w.aborted.Add(name, times+1)
	w.note(context.Background(), name, poll)
}

// checks looks at candidates when they are due.
func (w *Watcher) checks(ctx context.Context, offer func(upload.Dump) bool) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		live(&w.checkBeat)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-w.wake:
		}
		due, next := w.due(time.Now())
		for _, name := range due {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			live(&w.checkBeat)
			w.check(ctx, name, offer)
		}
		if len(due) > 0 {
			next = 0 // others may have become due meanwhile
		}
		timer.Reset(next)
	}
}

// due gives the candidates that are due, and how long it is until the next one is.
func (w *Watcher) due(now time.Time) (names []string, next time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next = pulse
	for name, c := range w.waiting {
		if wait := c.due.Sub(now); wait > 0 {
			next = min(next, wait)
		} else {
			c.checking = true
			names = append(names, name)
		}
	}
	return names, next
}

// check looks at one candidate: it offers it, sets it aside, leaves it, or waits on.
func (w *Watcher) check(ctx context.Context, name string, offer func(upload.Dump) bool) {
	log := klog.FromContext(ctx)
	f, err := w.root.Open(name)
	var refusal *Refusal
	switch {
	case errors.Is(err, fs.ErrNotExist):
		w.drop(name)
		return
	case errors.As(err, &refusal):
		w.drop(name)
		w.report.left(log, name, refusal.Reason)
		return
	case err != nil:
		w.drop(name) // the next scan tries again
		watchErrors.Inc()
		log.Error(err, "A file cannot be looked at", "file", name)
		return
	}
	defer f.Close()
	now := time.Now()
	fields, _ := w.rules.Template.Match(path.Base(name)) // it did when it was noted
	seen, err := w.rules.observe(f, fields, now)
	var bad *verdict
	if err != nil && !errors.As(err, &bad) {
		w.drop(name)
		watchErrors.Inc()
		log.Error(err, "A file cannot be looked at", "file", name)
		return
	}
	if wait := w.observed(name, seen).finishedIn(now, w.opts.Settle); wait > 0 {
		w.waitOn(name, now, wait)
		return
	}
	if bad != nil {
		w.setAside(ctx, f, bad)
		return
	}
	if offer(&dump{w, name, seen.state}) {
		w.drop(name)
	} else {
		w.waitOn(name, now, w.opts.Settle) // there is no room at present
	}
}

// observed joins what is seen of a candidate with what was seen before.
func (w *Watcher) observed(name string, seen observation) observation {
	n, _ := w.aborted.Get(name)
	seen.aborted, _ = n.(int)
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.waiting[name]
	if c == nil {
		return seen // its removal was told meanwhile
	}
	if c.state == seen.state {
		seen.since = c.since
	} else {
		c.wait = poll
	}
	c.observation = seen
	return seen
}

// waitOn has the candidate looked at again after wait, or earlier, for it may be closed any time: at growing intervals.
func (w *Watcher) waitOn(name string, now time.Time, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.waiting[name]; c != nil && c.checking {
		c.due = now.Add(min(wait, c.wait))
		c.wait = min(2*c.wait, max(w.opts.Settle, poll))
	}
}

// drop ends the check of a candidate for which there is nothing more to be done, unless something has happened to it since.
func (w *Watcher) drop(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.waiting[name]; c != nil && c.checking {
		delete(w.waiting, name)
	}
	unfinished.Set(float64(len(w.waiting)))
}

// setAside moves a finished file away that cannot be uploaded.
func (w *Watcher) setAside(ctx context.Context, f *File, v *verdict) {
	log := klog.FromContext(ctx)
	w.drop(f.path)
	switch err := f.SetAside(v.reason, v.why.Error()); {
	case err == nil:
		log.Info("Set a file aside", "file", f.path, "reason", v.reason, "why", v.why)
	case errors.Is(err, upload.ErrChanged):
		w.note(ctx, f.path, poll)
	default:
		watchErrors.Inc()
		log.Error(err, "A file cannot be set aside", "file", f.path, "reason", v.reason)
	}
}
