// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package spooled is the source of uploads for what the kernel delivered: it finds the finished entries of the spool, learns whose they are,
// and hands them to the uploader. Entries that only say that there is no dump it counts and removes.
package spooled

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/klog/v2"

	"example.io/coredump/pkg/bundle"
	"example.io/coredump/pkg/cgroup"
	"example.io/coredump/pkg/identity"
	"example.io/coredump/pkg/spool"
	"example.io/coredump/pkg/upload"
)

const (
	// scanInterval is how often the spool is gone through for what no event told, and for what a killed writer left.
	scanInterval = 10 * time.Second
	// lifeless is how long a scan may take before the source is taken for dead.
	lifeless = 5 * time.Minute
	// maxUntold bounds the entries without a dump that wait for somebody to say whose they are; what is beyond it is counted as nobody's. They take the
	// room of dumps: a crash loop while the API server is away must not fill the spool with them.
	maxUntold = 256
)

// Locator tells whose a container is; see identity.Locator.
type Locator interface {
	Locate(ctx context.Context, id cgroup.ID, at time.Time) (identity.Who, error)
}

// Options are what a Source works with.
type Options struct {
	Spool   *spool.Spool
	Place   identity.Place
	Locator Locator
	// Gather gives the files of the context that come from Kubernetes and the runtime, for dumps of which nobody collected them while the process
	// was held. nil: none.
	Gather func(ctx context.Context, id cgroup.ID, who identity.Who) ([]bundle.File, error)
	// Attended tells whether somebody still works on an entry; it is left alone until that is over, and Look is called then. nil: nobody.
	Attended func(entry string) bool
	// Wanted tells whether somebody wants dumps of theirs to be kept; it is asked of those that were taken while nobody could be asked. nil: everybody does.
	Wanted func(who identity.Who) bool
	// Ended is told of each entry, as soon as it is known whose it is or that this will never be known: once, but for one that was being told of when the program
	// was killed. It does not block.
	Ended func(ctx context.Context, e *Ended)
	// Salvaged is told what was found of killed writers.
	Salvaged func(ctx context.Context, s spool.Salvaged)
}

// Ended is a dump whose delivery has ended, well or not.
type Ended struct {
	// Entry is its name in the spool, Name that of the CoreDump; empty where there will be none that anybody sees.
	Entry, Name string
	Meta        *spool.Meta
	Outcome     *spool.Outcome
	// Who is whose it is; Known is false where nobody can tell.
	Who   identity.Who
	Known bool
}

// Source finds the finished entries of a spool. It implements upload.Source.
type Source struct {
	opts Options
	look chan struct{}

	started time.Time
	scanned atomic.Bool
	beat    atomic.Int64
	// tooMany is how many entries that only say that there is no dump wait beyond maxUntold.
	tooMany atomic.Int64
	// asked is the entry whose turn it was last, of those that are not settled. The loop's own.
	asked string

	mu sync.Mutex
	// told has the entries that Ended has been told of, and whether they are to be removed.
	told map[string]bool
}

// New makes a source. The spool stays the caller's.
func New(opts Options) *Source {
	return &Source{opts: opts, look: make(chan struct{}, 1), told: map[string]bool{}, started: time.Now()}
}

// Look makes the source look at the spool soon. It never blocks.
func (s *Source) Look() {
	select {
	case s.look <- struct{}{}:
	default:
	}
}

// Scanned tells whether the spool has been gone through once.
func (s *Source) Scanned() bool { return s.scanned.Load() }

// Alive fails where the source does not go on.
func (s *Source) Alive() error {
	if last := s.beat.Load(); last != 0 && time.Since(time.Unix(0, last)) > lifeless {
		return fmt.Errorf("the loop over the spool has not moved for more than %v", lifeless)
	}
	return nil
}

// Run hands finished entries to offer until ctx ends, which is no error.
func (s *Source) Run(ctx context.Context, offer func(upload.Dump) bool) error {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the spool: %w", err)
	}
	defer notify.Close()
	if err := notify.Add(s.opts.Spool.ReadyPath()); err != nil {
		return fmt.Errorf("watch the spool: %w", err)
	}
	tick := time.NewTicker(scanInterval)
	defer tick.Stop()
	for {
		s.beat.Store(time.Now().UnixNano())
		s.scan(ctx, offer)
		s.scanned.Store(true)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-s.look:
		case <-notify.Events:
			drain(notify.Events)
		case err := <-notify.Errors: // events may be missing, and a scan follows
			klog.FromContext(ctx).V(2).Info("Watching the spool failed", "err", err)
		}
	}
}

// drain takes what has come meanwhile: one scan does for all of it.
func drain(events <-chan fsnotify.Event) {
	for {
		select {
		case <-events:
		default:
			return
		}
	}
}

// scan goes through the spool once.
func (s *Source) scan(ctx context.Context, offer func(upload.Dump) bool) {
	log := klog.FromContext(ctx)
	salvaged, err := s.opts.Spool.Salvage()
	if err != nil {
		log.Error(err, "What a killed writer left cannot be finished and is tried again")
	}
	if s.opts.Salvaged != nil && len(salvaged.Finished)+len(salvaged.Removed)+len(salvaged.Aside) > 0 {
		s.opts.Salvaged(ctx, salvaged)
	}
	names, err := s.opts.Spool.Ready()
	if err != nil {
		log.Error(err, "The spool cannot be listed")
		return
	}
	s.forgetAllBut(names)
	var unsettled []string
	without := int64(0)
	for _, name := range names {
		if ctx.Err() != nil {
			return
		}
		s.beat.Store(time.Now().UnixNano())
		if s.opts.Attended != nil && s.opts.Attended(name) {
			continue
		}
		settled, core, err := s.offer(name, offer)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			log.Error(err, "An entry of the spool cannot be read and is tried again", "entry", name)
		}
		if err == nil && !settled {
			unsettled = append(unsettled, name)
			if !core {
				without++
			}
		}
	}
	s.tooMany.Store(max(0, without-maxUntold))
	s.settleAll(ctx, unsettled)
}

// offer offers a dump to be uploaded, which waits for nothing; what is not taken is offered again by the next scan. Whether there is nothing to be told of
// the entry any more, it says too, and otherwise whether there is a core in it.
func (s *Source) offer(name string, offer func(upload.Dump) bool) (settled, core bool, err error) {
	remove, settled := s.wasTold(name)
	switch {
	case remove:
		return true, false, s.opts.Spool.Remove(name)
	case settled:
		offer(&dump{source: s, name: name})
		return true, true, nil
	}
	e, err := s.opts.Spool.Entry(name)
	if err != nil {
		return false, false, err
	}
	defer e.Close()
	_, outcome, err := read(e)
	if errors.Is(err, spool.ErrRecord) {
		return true, false, s.opts.Spool.SetAside(name, err.Error())
	} else if err != nil {
		return false, false, err
	}
	if core = outcome.Suppressed == ""; core {
		offer(&dump{source: s, name: name})
	}
	return false, core, nil
}

func read(e *spool.Entry) (*spool.Meta, *spool.Outcome, error) {
	meta, err := e.Meta()
	if err != nil {
		return nil, nil, err
	}
	outcome, err := e.Outcome()
	return meta, outcome, err
}
