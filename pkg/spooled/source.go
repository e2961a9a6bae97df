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
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/klog/v2"

	"example.io/coredump/pkg/bundle"
	"example.io/coredump/pkg/cgroup"
	"example.io/coredump/pkg/identity"
	"example.io/coredump/pkg/spool"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/upload"
)

const (
	// scanInterval is how often the spool is gone through for what no event told, and for what a killed writer left.
	scanInterval = 10 * time.Second
	// lifeless is how long a scan may take before the source is taken for dead.
	lifeless = 5 * time.Minute
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
	// Ended is told once of each entry, as soon as it is known whose it is or that this will never be known.
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

	scanned atomic.Bool
	beat    atomic.Int64
}

// New makes a source. The spool stays the caller's.
func New(opts Options) *Source {
	return &Source{opts: opts, look: make(chan struct{}, 1)}
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
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return
		}
		s.beat.Store(time.Now().UnixNano())
		if s.opts.Attended != nil && s.opts.Attended(name) {
			continue
		}
		if err := s.entry(ctx, name, offer); err != nil && !errors.Is(err, fs.ErrNotExist) {
			log.Error(err, "An entry of the spool cannot be settled and is tried again", "entry", name)
		}
	}
}

// entry offers a dump, and settles an entry without one.
func (s *Source) entry(ctx context.Context, name string, offer func(upload.Dump) bool) error {
	e, err := s.opts.Spool.Entry(name)
	if err != nil {
		return err
	}
	defer e.Close()
	meta, outcome, err := read(e)
	if errors.Is(err, spool.ErrRecord) {
		return s.opts.Spool.SetAside(name, err.Error())
	} else if err != nil {
		return err
	}
	err = s.tell(ctx, e, meta, outcome)
	if outcome.Suppressed == "" {
		offer(&dump{source: s, name: name}) // what is not taken is offered again by the next scan
		return nil                          // whoever uploads it asks again whose it is, and tells about it
	}
	if err == nil {
		err = s.opts.Spool.Remove(name)
	}
	return err
}

// toldFile is the mark of an entry that Ended has been told of.
const toldFile = "told"

// tell tells of an entry, if that was not done yet and it is known whose it is.
func (s *Source) tell(ctx context.Context, e *spool.Entry, meta *spool.Meta, outcome *spool.Outcome) error {
	if _, err := e.ReadFile(toldFile, 1); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	who, err := s.whose(ctx, e, meta)
	ended := &Ended{Entry: e.Name(), Meta: meta, Outcome: outcome, Who: who, Known: err == nil}
	if err != nil && !errors.Is(err, errUnknown) {
		return err
	}
	if ended.Known {
		ended.Name = storage.Key{Namespace: who.Namespace, Pod: who.Pod, Container: who.Container, ID: id(meta)}.Name()
	}
	if s.opts.Ended != nil {
		s.opts.Ended(ctx, ended)
	}
	return e.WriteFile(toldFile, nil)
}

func read(e *spool.Entry) (*spool.Meta, *spool.Outcome, error) {
	meta, err := e.Meta()
	if err != nil {
		return nil, nil, err
	}
	outcome, err := e.Outcome()
	return meta, outcome, err
}
