// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package coredump

import (
	"context"
	"iter"

	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/endpoints/request"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/revision"
	"example.io/coredump/pkg/registry/status"
	"example.io/coredump/pkg/registry/watching"
	"example.io/coredump/pkg/storage"
)

// Watch tells of dumps that come and go, of those that List would give.
func (r *REST) Watch(ctx context.Context, opts *metainternalversion.ListOptions) (watch.Interface, error) {
	namespace := request.NamespaceValue(ctx)
	q := newQuery(namespace, opts)
	everything, uid, err := r.rule.View(namespace).Standing(ctx)
	if err != nil {
		return nil, status.Of(ctx, err, resource, "")
	}
	return r.hub.Watch(ctx, watching.Request{
		Scope:   q.watched(),
		View:    watching.View{Everything: everything, UID: uid},
		Options: opts,
		New:     r.New,
		Initial: func(ctx context.Context) iter.Seq2[runtime.Object, error] {
			return watching.Objects(r.visible(ctx, q, "", 0, &revision.Set{}), func(l storage.Listing) runtime.Object { return own(l.Record) })
		},
		Events: func(_ context.Context, b *watching.Batch) ([]watch.Event, error) { return q.events(b), nil },
		Status: func(err error) error { return status.Of(ctx, err, resource, "") },
	})
}

// watched is what has to be looked at: a name says more than the scope.
func (q query) watched() storage.Scope {
	if q.byName() {
		if k, err := storage.ParseName(q.scope.Namespace, q.name); err == nil {
			return storage.Scope{Namespace: k.Namespace, Pod: k.Pod, Container: k.Container}
		}
	}
	return q.scope
}

// events gives what fits the query. What was deleted has the resource version of the deletion.
func (q query) events(b *watching.Batch) (events []watch.Event) {
	for _, c := range b.Changes {
		d, event := own(c.Dump), c.Type
		switch fits := q.matches(c.Dump); {
		case fits:
		case c.Bare && (q.name == "" || q.name == d.Name): // who does not know it does not mind
		case event == watch.Modified: // it may have fitted before
			event = watch.Deleted
		default:
			continue
		}
		if event == watch.Deleted {
			d.ResourceVersion = b.ResourceVersion
		}
		events = append(events, watch.Event{Type: event, Object: d})
	}
	return events
}

// own gives an object whose metadata may be changed; the rest is shared.
func own(d *v1alpha1.CoreDump) *v1alpha1.CoreDump {
	o := *d
	return &o
}
