// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package upload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
)

const (
	// maxQueue bounds the dumps that are remembered; a source offers the others again later.
	maxQueue = 10_000
	// firstBackoff is the pause after the first failure. It doubles with every further one.
	firstBackoff = time.Second
	// stalled is how long an attempt may go without a byte being read before it is given up, and
	// lifeless when a worker that does not even give up is taken for dead.
	stalled, lifeless = 10 * time.Minute, 20 * time.Minute
	// inspection is how often running attempts are looked at.
	inspection = 5 * time.Second
)

// Identifier completes a record by what is known elsewhere of the names in it. An error means that it could not
// be asked, and to try again later.
type Identifier interface {
	Identify(ctx context.Context, d *v1alpha1.CoreDump) error
}

// Options are how a Pool works.
type Options struct {
	// Workers is the number of uploads at a time.
	Workers int
	// Codec compresses what is not compressed yet, each dump on CompressionWorkers.
	Codec              storage.Codec
	CompressionWorkers int
	// MaxSize bounds a core in bytes, uncompressed.
	MaxSize int64
	// MaxBackoff bounds the pause before a dump is tried again.
	MaxBackoff time.Duration
	// Grace is how long running uploads may go on when the pool is told to end.
	Grace time.Duration
	// Uploaded, where it is not nil, is told of every dump that has been committed and removed from the node. It does not block.
	Uploaded func(ctx context.Context, key storage.Key, d *v1alpha1.CoreDump)
}

// Pool uploads dumps. Safe for concurrent use.
type Pool struct {
	dumps *storage.Dumps
	who   Identifier
	opts  Options
	queue workqueue.TypedDelayingInterface[string] // paths

	mu      sync.Mutex
	waiting map[string]*item // by path; those that are being uploaded too
	running map[*attempt]struct{}
}

// item is a dump in the pool.
type item struct {
	dump     Dump
	since    time.Time
	attempts int
}

// New makes a pool that uploads to dumps.
func New(dumps *storage.Dumps, who Identifier, opts Options) *Pool {
	return &Pool{
		dumps: dumps, who: who, opts: opts,
		queue:   workqueue.NewTypedDelayingQueue[string](),
		waiting: map[string]*item{}, running: map[*attempt]struct{}{},
	}
}

// Offer takes a dump, unless there is no room (false). It never blocks. Of a path that it has already it keeps the earlier dump.
func (p *Pool) Offer(d Dump) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[d.Path()] != nil {
		return true
	}
	if len(p.waiting) >= maxQueue || p.queue.ShuttingDown() {
		return false
	}
	p.waiting[d.Path()] = &item{dump: d, since: time.Now()}
	queueLength.Set(float64(len(p.waiting)))
	p.queue.Add(d.Path())
	return true
}

// Run uploads until ctx ends. What is running then may go on for the grace period; the rest stays on the node. It can be called once.
func (p *Pool) Run(ctx context.Context) error {
	uploads, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	var workers sync.WaitGroup
	for range p.opts.Workers {
		workers.Go(func() { p.work(ctx, uploads) })
	}
	done := make(chan struct{})
	var inspector sync.WaitGroup
	inspector.Go(func() { p.inspect(done) })

	<-ctx.Done()
	p.queue.ShutDown()
	if n := p.busy(); n > 0 {
		klog.FromContext(ctx).Info("Finishing uploads", "running", n, "grace", p.opts.Grace)
	}
	timer := time.AfterFunc(p.opts.Grace, func() { cancel(errors.New("the grace period is over")) })
	defer timer.Stop()
	workers.Wait()
	close(done)
	inspector.Wait()
	return nil
}

// work uploads one dump after the other until the queue is shut down.
func (p *Pool) work(ctx, uploads context.Context) {
	for {
		path, shutdown := p.queue.Get()
		if shutdown {
			return
		}
		if ctx.Err() == nil {
			p.upload(uploads, path)
		}
		p.queue.Done(path)
	}
}

// upload makes one attempt at the dump and decides what comes after it.
func (p *Pool) upload(ctx context.Context, path string) {
	p.mu.Lock()
	it := p.waiting[path]
	p.mu.Unlock()
	if it == nil {
		return
	}
	a := &attempt{pool: p, item: it}
	err := a.run(ctx)
	switch {
	case err == nil:
		p.forget(path)
	case errors.Is(err, ErrGone):
		dumpsTotal.WithLabelValues(resultGone).Inc()
		p.forget(path)
	case errors.Is(err, ErrChanged):
		dumpsTotal.WithLabelValues(resultChanged).Inc()
		klog.FromContext(ctx).Info("A file changed before it was uploaded and is looked at again", "file", path)
		p.forget(path)
		it.dump.Recheck()
	case ctx.Err() != nil:
		failures.WithLabelValues(failureShutdown).Inc()
		klog.FromContext(ctx).Info("An upload was cancelled and stays for the next start", "file", path, "cause", context.Cause(ctx))
	default:
		it.attempts++
		pause := backoff(it.attempts, p.opts.MaxBackoff)
		tell(klog.FromContext(ctx), it, err, pause)
		p.queue.AddAfter(path, pause)
	}
}

func (p *Pool) forget(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, path)
	queueLength.Set(float64(len(p.waiting)))
}

// tell logs a failed attempt: what time heals less and less often, what may need a person each time.
func tell(log klog.Logger, it *item, err error, pause time.Duration) {
	reason := failureOf(err)
	failures.WithLabelValues(reason).Inc()
	needsPerson := reason == failureDenied || reason == failureCorrupt
	if powerOfTwo := it.attempts&(it.attempts-1) == 0; needsPerson || powerOfTwo {
		log.Error(err, "An upload failed and will be tried again", "file", it.dump.Path(), "reason", reason, "attempts", it.attempts, "pause", pause.Round(time.Millisecond))
	}
}

// backoff doubles from firstBackoff to most, with jitter: between half of it and all of it.
func backoff(attempts int, most time.Duration) time.Duration {
	pause := min(firstBackoff<<min(attempts-1, 20), most)
	return pause/2 + rand.N(pause/2+1)
}

// inspect looks at what is running and waiting until done is closed.
func (p *Pool) inspect(done <-chan struct{}) {
	tick := time.NewTicker(inspection)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case now := <-tick.C:
			oldestWaiting.Set(p.oldest(now).Seconds())
			p.eachRunning(func(a *attempt) {
				if a.still(now) > stalled {
					a.cancel(errStalled)
				}
			})
		}
	}
}

func (p *Pool) oldest(now time.Time) (age time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, it := range p.waiting {
		age = max(age, now.Sub(it.since))
	}
	return age
}

func (p *Pool) busy() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.running)
}

func (p *Pool) eachRunning(f func(*attempt)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for a := range p.running {
		f(a)
	}
}

// Alive fails where a worker does not even give up. It says nothing of the store.
func (p *Pool) Alive() (err error) {
	p.eachRunning(func(a *attempt) {
		if still := a.still(time.Now()); still > lifeless {
			err = fmt.Errorf("the upload of %q has not moved for %v", a.item.dump.Path(), still.Round(time.Second))
		}
	})
	return err
}
