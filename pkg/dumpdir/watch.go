// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package dumpdir

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"
	"k8s.io/utils/lru"

	"example.io/coredump/pkg/upload"
)

const (
	// debounce is how long after an event a file is looked at.
	debounce = 50 * time.Millisecond
	// maxWaiting bounds the unfinished files that are remembered; the next scan finds the others.
	maxWaiting = 16384
	// maxWatched bounds the directories that are watched; scans go through the others.
	maxWatched = 16384
	// pulse is how often the loops show that they are alive, and lifeless when they are taken for dead.
	pulse, lifeless = 5 * time.Second, 3 * time.Minute
)

// Options are how a Watcher works.
type Options struct {
	Rules Rules
	// Settle is how long a file must be unchanged that does not show by itself that it is finished.
	Settle time.Duration
	// Rescan is how often the whole directory is gone through, for what events did not tell.
	Rescan time.Duration
}

// Watcher is the source of dumps in mode file: it finds the finished core files in a directory. Events (inotify) are hints
// where to look; whatever they miss, scans find. It implements upload.Source.
type Watcher struct {
	root   *Root
	rules  Rules
	opts   Options
	notify *fsnotify.Watcher
	report *reporter

	mu      sync.Mutex
	waiting map[string]*candidate // by path
	watched map[string]struct{}   // directories

	aborted *lru.Cache    // path -> number of uploads that were aborted because the file changed
	wake    chan struct{} // a candidate is due earlier than the loop knows
	found   chan string   // new directories
	rescan  chan string   // the cause of a scan that is asked for

	scanned                    atomic.Bool
	eventBeat, checkBeat, scan atomic.Int64 // when each loop showed a sign of life, in Unix nanoseconds
}

// candidate is a file that may be a dump.
type candidate struct {
	observation
	// due is when it is looked at next, and wait how long the pause after that will be.
	due  time.Time
	wait time.Duration
	// checking is true from when it was due until it is done with or something happens to it.
	checking bool
}

// NewWatcher makes a watcher of the root, which stays the caller's.
func NewWatcher(root *Root, opts Options) *Watcher {
	return &Watcher{
		root: root, rules: opts.Rules, opts: opts, report: newReporter(),
		waiting: map[string]*candidate{}, watched: map[string]struct{}{},
		aborted: lru.New(reported),
		wake:    make(chan struct{}, 1), found: make(chan string, 256), rescan: make(chan string, 1),
	}
}

// Run finds dumps until ctx ends, which is no error. It can be called once.
func (w *Watcher) Run(ctx context.Context, offer func(upload.Dump) bool) error {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %q: %w", w.root.path, err)
	}
	defer notify.Close()
	w.notify = notify
	loops, ctx := errgroup.WithContext(ctx)
	loops.Go(func() error { return w.events(ctx) })
	loops.Go(func() error { return w.scans(ctx) })
	loops.Go(func() error { return w.checks(ctx, offer) })
	if err := loops.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Scanned tells whether the directory has been gone through once.
func (w *Watcher) Scanned() bool { return w.scanned.Load() }

// Alive fails where one of the watcher's loops does not go on.
func (w *Watcher) Alive() error {
	for name, beat := range map[string]*atomic.Int64{"events": &w.eventBeat, "files": &w.checkBeat, "scans": &w.scan} {
		if last := beat.Load(); last != 0 && time.Since(time.Unix(0, last)) > lifeless {
			return fmt.Errorf("the loop over %s has not moved for more than %v", name, lifeless)
		}
	}
	return nil
}

func live(beat *atomic.Int64) { beat.Store(time.Now().UnixNano()) }

// events takes the hints of the kernel.
func (w *Watcher) events(ctx context.Context) error {
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	for {
		live(&w.eventBeat)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case ev := <-w.notify.Events:
			if err := w.event(ctx, ev); err != nil {
				return err
			}
		case err := <-w.notify.Errors:
			// Whatever it is, events may be missing.
			w.askForScan("overflow")
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				watchErrors.Inc()
				klog.FromContext(ctx).Error(err, "Watching failed")
			}
		}
	}
}

func (w *Watcher) event(ctx context.Context, ev fsnotify.Event) error {
	name, below := strings.CutPrefix(ev.Name, strings.TrimSuffix(w.root.path, "/")+"/")
	if ev.Name == w.root.path && ev.Has(fsnotify.Remove|fsnotify.Rename) {
		return fmt.Errorf("the dump directory %q was removed or renamed", w.root.path)
	}
	if !below || name == "" || reserved(name) {
		return nil
	}
	switch {
	case ev.Has(fsnotify.Remove | fsnotify.Rename):
		w.forget(name)
	case ev.Has(fsnotify.Create) && w.root.isDir(name):
		select {
		case w.found <- name:
		default:
			w.askForScan("overflow")
		}
	default:
		w.note(ctx, name, debounce)
	}
	return nil
}

// askForScan has the whole directory gone through soon. Several at a time are one.
func (w *Watcher) askForScan(cause string) {
	select {
	case w.rescan <- cause:
	default:
	}
}

// scans goes through the directory: at the start, where something new is, at an interval, and when asked to.
func (w *Watcher) scans(ctx context.Context) error {
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	interval := time.NewTicker(w.opts.Rescan)
	defer interval.Stop()
	if err := w.scanAll(ctx, "start"); err != nil {
		return err
	}
	w.scanned.Store(true)
	for {
		live(&w.scan)
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case name := <-w.found:
			err = w.root.walk(ctx, name, visit{ctx, w})
		case <-interval.C:
			err = w.scanAll(ctx, "interval")
		case cause := <-w.rescan:
			err = w.scanAll(ctx, cause)
		}
		if err != nil {
			return err
		}
	}
}

func (w *Watcher) scanAll(ctx context.Context, cause string) error {
	rescans.WithLabelValues(cause).Inc()
	return w.root.walk(ctx, ".", visit{ctx, w})
}

// visit is the visitor of a scan.
type visit struct {
	ctx context.Context
	w   *Watcher
}

func (v visit) entry(name string) {
	live(&v.w.scan)
	v.w.note(v.ctx, name, 0)
}

// directory watches a directory. The watch is put on a path, which a tenant can replace by a link in that moment: what comes then are
// hints to names that no lookup finds.
func (v visit) directory(name string) {
	live(&v.w.scan)
	v.w.mu.Lock()
	_, known := v.w.watched[name]
	room := len(v.w.watched) < maxWatched
	if known || room {
		v.w.watched[name] = struct{}{}
	}
	v.w.mu.Unlock()
	if !known && !room {
		return
	}
	if err := v.w.notify.Add(filepath.Join(v.w.root.path, name)); err != nil {
		v.w.mu.Lock()
		delete(v.w.watched, name)
		v.w.mu.Unlock()
		v.unreadable(name, fmt.Errorf("watch: %w", err))
	}
}

func (v visit) unreadable(name string, err error) {
	watchErrors.Inc()
	klog.FromContext(v.ctx).Error(err, "A directory cannot be watched or read", "directory", name)
}

// forget drops what is known of a name that is gone. What was a directory and has another name now is found again under that.
func (w *Watcher) forget(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiting, name)
	if _, isDir := w.watched[name]; !isDir {
		return
	}
	for dir := range w.watched {
		if dir == name || strings.HasPrefix(dir, name+"/") {
			delete(w.watched, dir)
			_ = w.notify.Remove(filepath.Join(w.root.path, dir)) // fails where the kernel was faster
		}
	}
}
