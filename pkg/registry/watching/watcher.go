// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package watching

import (
	"context"
	"errors"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/klog/v2"

	"example.io/coredump/pkg/storage"
)

const (
	// maxQueue is how many batches may wait for a client. They are shared: a queue takes next to no memory.
	maxQueue = 64
	// maxReady is how many events are ready for the connection.
	maxReady = 16
)

// watcher is the watch of one client. It implements watch.Interface.
type watcher struct {
	req  Request
	from start
	// version is the resource version of the poll before the first batch of the queue.
	version string
	missed  []*Batch
	added   []storage.Listed
	leave   func()

	queue  chan *Batch
	result chan watch.Event

	once  sync.Once
	ended chan struct{} // closed when nobody wants any more of it
	err   error         // why, for the client; nil if there is nothing to tell
}

func newWatcher(req Request, from start) *watcher {
	return &watcher{req: req, from: from, queue: make(chan *Batch, maxQueue), result: make(chan watch.Event, maxReady), ended: make(chan struct{})}
}

// ResultChan is closed when the watch has ended.
func (w *watcher) ResultChan() <-chan watch.Event { return w.result }

// Stop ends the watch. It does not wait.
func (w *watcher) Stop() { w.end(nil) }

// end ends the watch and tells the client why, if it still listens.
func (w *watcher) end(err error) {
	w.once.Do(func() {
		w.err = err
		close(w.ended)
	})
}

// why is what the client is to be told of the end.
func (w *watcher) why() error {
	select {
	case <-w.ended:
		return w.err
	default:
		return nil // the request is over
	}
}

// offer gives the watcher a batch, or ends it where it has not taken those before.
func (w *watcher) offer(b *Batch) bool {
	select {
	case w.queue <- b:
		return true
	default:
		w.end(nil) // it comes back with the last resource version that it has seen
		return false
	}
}

// run sends what is to be sent until the watch ends.
func (w *watcher) run(ctx context.Context) {
	defer close(w.result)
	defer w.leave()
	err := w.send(ctx)
	if err == nil {
		return
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		ended.WithLabelValues(endFailed).Inc()
		errors.As(w.req.Status(err), &status)
	}
	if status == nil {
		klog.FromContext(ctx).Error(err, "Watch failed")
		return
	}
	s := status.Status()
	select {
	case w.result <- watch.Event{Type: watch.Error, Object: &s}:
	case <-ctx.Done():
	default: // it does not listen
	}
}

// send gives the reason for the end that the client is to be told.
func (w *watcher) send(ctx context.Context) error {
	if w.from.initial {
		for obj, err := range w.req.Initial(ctx) {
			if err != nil {
				return err
			}
			if !w.put(ctx, watch.Event{Type: watch.Added, Object: obj}) {
				return w.why()
			}
		}
		if w.from.announced && !w.bookmark(ctx, w.version, map[string]string{metav1.InitialEventsAnnotationKey: "true"}) {
			return w.why()
		}
	}
	missed := w.missed
	if len(w.added) > 0 {
		b, err := w.addedSince(ctx)
		if err != nil {
			return err
		}
		missed = append(missed, b)
	}
	for _, b := range missed {
		if more, err := w.batch(ctx, b); !more {
			return err
		}
	}
	w.missed, w.added = nil, nil
	for {
		select {
		case b := <-w.queue:
			if more, err := w.batch(ctx, b); !more {
				return err
			}
		case <-w.ended:
			return w.why()
		case <-ctx.Done():
			return nil
		}
	}
}

// addedSince makes a batch of what was added before the watcher joined.
func (w *watcher) addedSince(ctx context.Context) (*Batch, error) {
	listings, err := readAll(ctx, w.req.source, w.added)
	if err != nil {
		return nil, err
	}
	b := &Batch{ResourceVersion: w.version}
	for _, l := range listings {
		if l != nil && l.Err == nil && w.req.View.Sees(l.Record) {
			b.Changes = append(b.Changes, Change{Type: watch.Added, Dump: l.Record})
		}
	}
	return b, nil
}

// batch sends what the batch means to this client. More is false where the watch has ended.
func (w *watcher) batch(ctx context.Context, b *Batch) (more bool, err error) {
	if len(b.Changes) > 0 {
		events, err := w.req.Events(ctx, b)
		if err != nil {
			return false, err
		}
		for _, e := range events {
			if !w.put(ctx, e) {
				return false, w.why()
			}
		}
	}
	if !w.from.bookmarks || w.bookmark(ctx, b.ResourceVersion, nil) {
		return true, nil
	}
	return false, w.why()
}

func (w *watcher) bookmark(ctx context.Context, version string, annotations map[string]string) bool {
	obj := w.req.New()
	m, err := meta.Accessor(obj)
	if err != nil {
		return false
	}
	m.SetResourceVersion(version)
	m.SetAnnotations(annotations)
	return w.put(ctx, watch.Event{Type: watch.Bookmark, Object: obj})
}

// put is false where the watch has ended.
func (w *watcher) put(ctx context.Context, e watch.Event) bool {
	select {
	case w.result <- e:
		return true
	case <-w.ended:
		return false
	case <-ctx.Done():
		return false
	}
}
