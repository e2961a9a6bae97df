// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package coredumpendpoint

import (
	"context"
	"iter"

	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/endpoints/request"

	"example.io/coredump/pkg/registry/revision"
	"example.io/coredump/pkg/registry/status"
	"example.io/coredump/pkg/registry/watching"
	"example.io/coredump/pkg/storage"
)

// Watch tells of pod names that get dumps, and of what changes about those that List would give.
func (r *REST) Watch(ctx context.Context, opts *metainternalversion.ListOptions) (watch.Interface, error) {
	namespace := request.NamespaceValue(ctx)
	q := newQuery(namespace, opts)
	everything, uid, err := r.rule.View(namespace).Standing(ctx)
	if err != nil {
		return nil, status.Of(ctx, err, resource, "")
	}
	view := watching.View{Everything: everything, UID: uid}
	return r.hub.Watch(ctx, watching.Request{
		Scope:   q.scope,
		View:    view,
		Options: opts,
		New:     r.New,
		Initial: func(ctx context.Context) iter.Seq2[runtime.Object, error] {
			return watching.Objects(r.summaries(ctx, namespace, q, "", &revision.Set{}), func(s podSummary) runtime.Object { return s.endpoint() })
		},
		Events: func(ctx context.Context, b *watching.Batch) ([]watch.Event, error) { return r.events(ctx, q, view, b) },
		Status: func(err error) error { return status.Of(ctx, err, resource, "") },
	})
}

// podChange is what became of a pod name.
type podChange struct {
	event watch.EventType
	*summary
}

// events gives what fits the query.
func (r *REST) events(ctx context.Context, q query, view watching.View, b *watching.Batch) ([]watch.Event, error) {
	shared, err := b.Shared(func() (any, error) { return r.podChanges(ctx, view, b) })
	if err != nil {
		return nil, err
	}
	var events []watch.Event
	for _, c := range shared.([]podChange) {
		if !q.matches(c.summary) {
			continue
		}
		e := c.endpoint()
		if c.event == watch.Deleted {
			e.ResourceVersion = b.ResourceVersion
		}
		events = append(events, watch.Event{Type: c.event, Object: e})
	}
	return events, nil
}

// podChanges sums up again the pods that the changes are about, as they are by now.
func (r *REST) podChanges(ctx context.Context, view watching.View, b *watching.Batch) ([]podChange, error) {
	type pod struct{ namespace, name string }
	var pods []pod
	gone := map[pod]*summary{} // what was deleted
	came := map[pod]int64{}
	for _, c := range b.Changes {
		p := pod{c.Dump.Namespace, c.Dump.Spec.PodName}
		if gone[p] == nil {
			pods = append(pods, p)
			gone[p] = newSummary(p.namespace, p.name)
		}
		switch c.Type {
		case watch.Added:
			came[p]++
		case watch.Deleted:
			gone[p].add(c.Dump)
		}
	}
	changes := make([]podChange, 0, len(pods))
	for _, p := range pods {
		s, err := r.sum(ctx, view, p.namespace, p.name)
		switch {
		case err != nil:
			return nil, err
		case s.count == 0 && gone[p].count == 0:
		case s.count == 0:
			changes = append(changes, podChange{watch.Deleted, gone[p]})
		case s.count == came[p] && gone[p].count == 0:
			changes = append(changes, podChange{watch.Added, s})
		default:
			changes = append(changes, podChange{watch.Modified, s})
		}
	}
	return changes, nil
}

// sum sums up the dumps of a pod name that the view has.
func (r *REST) sum(ctx context.Context, view watching.View, namespace, pod string) (*summary, error) {
	s := newSummary(namespace, pod)
	for l, err := range r.store.List(ctx, storage.Scope{Namespace: namespace, Pod: pod}, "") {
		if err != nil {
			return nil, err
		}
		if l.Err == nil && view.Sees(l.Record) {
			s.add(l.Record)
		}
	}
	return s, nil
}
