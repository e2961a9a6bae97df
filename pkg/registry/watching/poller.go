// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package watching

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/klog/v2"

	"example.io/coredump/pkg/registry/revision"
	"example.io/coredump/pkg/storage"
)

const (
	// skew is by how much the clocks of the servers and of the store may differ.
	skew = 5 * time.Second
	// recent is how old a resource version may be that has no fingerprint, where nobody was looking at the time: what was deleted since is lost to the client.
	recent = 30 * time.Second
	// bookmarkEvery is how often clients are told the time when nothing happens. They resume from it.
	bookmarkEvery = time.Minute
	// maxChanges, and maxBytes of records, bound what one poll may find; with more than that it is cheaper for clients to list again.
	maxChanges = 2000
	// pollTimeout bounds a poll.
	pollTimeout = 5 * time.Minute
	// pollShare is what part of the time polls may take.
	pollShare = 10
	// maxBackoff is the longest time between polls that fail.
	maxBackoff = time.Minute
	// jitter spreads the polls of several servers.
	jitter = 0.2
	// reads is how many records a poll reads at a time.
	reads = 16
)

// errMoved is returned where another namespace lives under the name by now.
var errMoved = errors.New("the namespace was deleted")

// poller looks at the bucket for all who watch the same.
type poller struct {
	config Config
	key    pollerKey

	// Of the Hub, by its mutex.
	users  int
	forget *time.Timer

	// polling is held by who polls. It guards what follows.
	polling  chan struct{}
	snapshot snapshot

	mu       sync.Mutex
	primed   bool // the first poll has been made
	moved    bool // another namespace lives by now
	version  string
	marked   time.Time // the last batch
	history  history
	watchers map[*watcher]struct{}
	stop     context.CancelFunc // of the loop, while it runs
}

func newPoller(c Config, key pollerKey) *poller {
	return &poller{config: c, key: key, polling: make(chan struct{}, 1), snapshot: snapshot{seen: map[string]*seen{}}, watchers: map[*watcher]struct{}{}}
}

// worthKeeping tells whether somebody may go on with what it has seen.
func (p *poller) worthKeeping() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.primed && !p.moved
}

// join makes a watcher that begins at from. Who has polled nothing yet does so now.
func (p *poller) join(ctx context.Context, req Request, from start) (*watcher, error) {
	select {
	case p.polling <- struct{}{}:
		defer func() { <-p.polling }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.mu.Lock()
	primed, moved := p.primed, p.moved
	p.mu.Unlock()
	if moved {
		return nil, errExpired(errMoved.Error())
	}
	if !primed {
		err := p.poll(ctx)
		if errors.Is(err, errMoved) {
			return nil, errExpired(err.Error())
		}
		if err != nil {
			return nil, err
		}
	}
	w := newWatcher(req, from)
	p.mu.Lock()
	defer p.mu.Unlock()
	if from.since {
		if err := p.catchUp(w, from); err != nil {
			ended.WithLabelValues(endExpired).Inc()
			return nil, err
		}
	}
	w.version = p.version
	w.leave = func() { p.leave(w) }
	p.watchers[w] = struct{}{}
	if p.stop == nil {
		ctx, cancel := context.WithCancel(context.Background())
		p.stop = cancel
		go p.loop(ctx, primed)
	}
	return w, nil
}

// catchUp gives the watcher what happened before it joined. Both polling and mu are held.
func (p *poller) catchUp(w *watcher, from start) error {
	now := time.Now()
	if from.at.After(now.Add(skew)) {
		return errExpired("it is of the future")
	}
	if from.at.After(p.history.floor) {
		w.missed = p.history.since(from.at.Add(-skew))
		return nil
	}
	if from.fingerprint != 0 {
		added, ok := p.snapshot.since(from.at, from.fingerprint)
		if !ok {
			return errExpired("it is not known what was deleted since")
		}
		w.added = added
		return nil
	}
	if now.Sub(from.at) > recent {
		return errExpired("it is not known what was deleted since")
	}
	w.added = p.snapshot.newer(from.at.Add(-skew))
	return nil
}

func (p *poller) leave(w *watcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.watchers, w)
	if len(p.watchers) == 0 && p.stop != nil {
		p.stop()
		p.stop = nil
	}
}

// loop polls until ctx ends, which it does when the last watcher leaves. Who comes back when nobody was looking wants a poll at once.
func (p *poller) loop(ctx context.Context, atOnce bool) {
	log := klog.FromContext(ctx).WithValues("scope", p.key.scope)
	pause, failed := p.config.Interval, 0
	if atOnce {
		pause = 0
	}
	for {
		select {
		case <-time.After(wait.Jitter(pause, jitter)):
		case <-ctx.Done():
			return
		}
		begin := time.Now()
		select {
		case p.polling <- struct{}{}:
		case <-ctx.Done():
			return
		}
		err := p.poll(ctx)
		<-p.polling
		switch {
		case ctx.Err() != nil || errors.Is(err, errMoved):
			return
		case err != nil:
			if failed++; failed == 1 {
				log.Error(err, "Cannot look for changes; watches stay open and get them later")
			}
			pause = min(max(p.config.Interval, p.config.Interval<<min(failed-1, 10)), max(maxBackoff, p.config.Interval))
		default:
			if failed > 0 {
				log.Info("Looking for changes again", "failures", failed)
			}
			failed = 0
			pause = max(p.config.Interval, pollShare*time.Since(begin))
		}
	}
}

// poll looks at the bucket, and publishes what has changed. It holds polling.
func (p *poller) poll(ctx context.Context) (err error) {
	defer func() {
		result := pollOK
		if err != nil {
			result = pollFailed
		}
		if ctx.Err() == nil {
			polls.WithLabelValues(result).Inc()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	begin := time.Now()
	d, err := p.snapshot.compare(ctx, p.config.Source, p.key.scope)
	if err != nil {
		return fmt.Errorf("list %+q: %w", p.key.scope, err)
	}
	p.mu.Lock()
	primed := p.primed
	p.mu.Unlock()
	expire := ""
	var changes []Change
	switch {
	case !primed:
	case d.len() > maxChanges || d.bytes() > maxBytes:
		expire = "too much has changed at a time"
	default:
		var known bool
		if changes, known, err = p.changes(ctx, &d); err != nil {
			return err
		}
		if !known {
			expire = "it is not known whose the deleted dumps were"
		}
	}
	// After the records were read: a namespace that lives now has lived since before they were.
	if err := p.checkView(ctx); err != nil {
		return err
	}
	p.snapshot.apply(d)
	p.publish(begin, changes, expire)
	return nil
}

// checkView sees to it that nobody is shown what belongs to a namespace that is gone.
func (p *poller) checkView(ctx context.Context) error {
	if p.key.view.Everything {
		return nil
	}
	uid, err := p.config.LivingUID(ctx, p.key.scope.Namespace)
	if err != nil {
		return err
	}
	if uid == p.key.view.UID {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moved = true
	p.expire(errMoved.Error())
	return errMoved
}

// changes reads what is new. What is gone again before it was read is not in d any more. Known is false where it cannot be told who may see what was deleted.
func (p *poller) changes(ctx context.Context, d *difference) (changes []Change, known bool, err error) {
	for _, l := range d.deleted {
		switch rec := p.config.Source.Remembered(l); {
		case rec != nil && p.key.view.Sees(rec):
			changes = append(changes, Change{Type: watch.Deleted, Dump: rec, size: l.Object.Size})
		case rec != nil:
		case p.key.view.Everything:
			changes = append(changes, Change{Type: watch.Deleted, Dump: storage.Bare(l.Key), Bare: true})
		default:
			return nil, false, nil
		}
	}
	for _, kind := range []struct {
		event  watch.EventType
		listed *[]storage.Listed
	}{{watch.Modified, &d.modified}, {watch.Added, &d.added}} {
		listings, err := readAll(ctx, p.config.Source, *kind.listed)
		if err != nil {
			return nil, false, err
		}
		var there []storage.Listed
		for i, l := range listings {
			if l == nil {
				continue
			}
			there = append(there, (*kind.listed)[i])
			switch {
			case l.Err != nil:
				p.config.Unreadable(ctx, l.Key, l.Err)
			case p.key.view.Sees(l.Record):
				changes = append(changes, Change{Type: kind.event, Dump: l.Record, size: l.Size})
			}
		}
		*kind.listed = there
	}
	return changes, true, nil
}

// readAll reads several records at a time. It gives nil for those that are gone.
func readAll(ctx context.Context, source Source, all []storage.Listed) ([]*storage.Listing, error) {
	listings := make([]*storage.Listing, len(all))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(reads)
	for i, l := range all {
		g.Go(func() error {
			listing, err := source.Read(ctx, l)
			switch {
			case errors.Is(err, storage.ErrNotFound), errors.Is(err, storage.ErrChanged):
				return nil
			case err == nil:
				listings[i] = &listing
			}
			return err
		})
	}
	return listings, g.Wait()
}

// publish gives the watchers what was found by the poll that began at begin.
func (p *poller) publish(begin time.Time, changes []Change, expire string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.version = revision.Of(begin, p.snapshot.set.Fingerprint())
	b := &Batch{Changes: changes, ResourceVersion: p.version, end: now}
	switch {
	case !p.primed:
		p.primed, p.marked = true, now
		p.history.restart(now)
		return
	case expire != "":
		p.history.restart(now)
		p.expire(expire)
		return
	case len(changes) > 0:
		p.history.add(b)
	case now.Sub(p.marked) < bookmarkEvery:
		return
	}
	p.marked = now
	for w := range p.watchers {
		if !w.offer(b) {
			ended.WithLabelValues(endSlow).Inc()
			delete(p.watchers, w)
		}
	}
}

// expire ends all watches: their clients have to list again. mu is held.
func (p *poller) expire(why string) {
	for w := range p.watchers {
		ended.WithLabelValues(endExpired).Inc()
		w.end(errExpired(why))
		delete(p.watchers, w)
	}
}
