// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package coredump

import (
	"context"
	"errors"
	"iter"
	"time"

	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/page"
	"example.io/coredump/pkg/registry/revision"
	"example.io/coredump/pkg/registry/status"
	"example.io/coredump/pkg/storage"
)

// List reads the dumps of a namespace, or of all, page by page in the order of their keys. Selectors are applied as records are
// read, so a page has as many items as were asked for if there are that many.
func (r *REST) List(ctx context.Context, opts *metainternalversion.ListOptions) (runtime.Object, error) {
	namespace := request.NamespaceValue(ctx)
	p, err := page.Of(opts, namespace, time.Now())
	if err != nil {
		return nil, err
	}
	list := &v1alpha1.CoreDumpList{Items: []v1alpha1.CoreDump{}}
	last, more := "", false
	var seen revision.Set
	q := newQuery(namespace, opts)
	room := r.room.list(ctx)
	for d, err := range r.visible(ctx, q, p.After, p.Limit, &seen) {
		if err != nil {
			return nil, status.Of(ctx, err, resource, "")
		}
		if err := room.take(d.Size); err != nil {
			return nil, err
		}
		list.Items = append(list.Items, *d.Record)
		last = d.Key.Record()
		if more = p.Full(len(list.Items)); more { // perhaps: to know it would take another request to the bucket, so the last page may be empty
			break
		}
	}
	if !more {
		last = ""
	}
	fingerprint := seen.Fingerprint()
	if q.byName() {
		fingerprint = 0
	}
	list.ListMeta = p.Meta(last, fingerprint)
	return list, nil
}

// visible yields the dumps that fit the query and that the user may see. Records that cannot be understood are
// reported and left out. All that are read are added to seen.
func (r *REST) visible(ctx context.Context, q query, after string, limit int, seen *revision.Set) iter.Seq2[storage.Listing, error] {
	return func(yield func(storage.Listing, error) bool) {
		view := r.rule.View(q.namespace)
		for l, err := range r.read(ctx, q, after, limit) {
			if err != nil {
				yield(l, err)
				return
			}
			seen.Add(l.Key.Record())
			if l.Err != nil {
				r.unreadable.Report(ctx, l.Key, l.Err)
				continue
			}
			if !q.matches(l.Record) {
				continue
			}
			sees, err := view.Sees(ctx, l.Record)
			if err != nil {
				yield(l, err)
				return
			}
			if sees && !yield(l, nil) {
				return
			}
		}
	}
}

// read yields what may fit the query, reading as little as possible.
func (r *REST) read(ctx context.Context, q query, after string, limit int) iter.Seq2[storage.Listing, error] {
	if !q.byName() {
		return r.store.ListUpTo(ctx, q.scope, after, limit)
	}
	return func(yield func(storage.Listing, error) bool) {
		key, err := storage.ParseName(q.scope.Namespace, q.name)
		if err != nil || key.Record() <= after {
			return
		}
		d, err := r.store.Get(ctx, key)
		switch {
		case errors.Is(err, storage.ErrNotFound):
		case errors.Is(err, storage.ErrCorrupt):
			yield(storage.Listing{Key: key, Err: err}, nil)
		default:
			yield(storage.Listing{Key: key, Record: d}, err)
		}
	}
}

// query is what a list selects.
type query struct {
	namespace string // of the request; empty means all
	name      string // where the field selector says which one
	scope     storage.Scope
	labels    labels.Selector
	fields    fields.Selector
}

func newQuery(namespace string, opts *metainternalversion.ListOptions) query {
	q := query{namespace: namespace, scope: storage.Scope{Namespace: namespace}, labels: labels.Everything(), fields: fields.Everything()}
	if opts == nil {
		return q
	}
	if opts.LabelSelector != nil {
		q.labels = opts.LabelSelector
	}
	if opts.FieldSelector != nil {
		q.fields = opts.FieldSelector
	}
	// What follows only narrows what is read: fields is applied in any case.
	q.name, _ = q.fields.RequiresExactMatch("metadata.name")
	if ns, ok := q.fields.RequiresExactMatch("metadata.namespace"); ok && namespace == "" && storage.ValidNamespace(ns) {
		q.scope.Namespace = ns
	}
	if pod, ok := q.fields.RequiresExactMatch("spec.podName"); ok && q.scope.Namespace != "" && storage.ValidPod(pod) {
		q.scope.Pod = pod
		if container, ok := q.fields.RequiresExactMatch("spec.containerName"); ok && storage.ValidContainer(container) {
			q.scope.Container = container
		}
	}
	return q
}

// byName tells whether at most one record is read.
func (q query) byName() bool { return q.name != "" && q.scope.Namespace != "" }

func (q query) matches(d *v1alpha1.CoreDump) bool {
	return q.labels.Matches(labels.Set(d.Labels)) && q.fields.Matches(v1alpha1.SelectableFields(d))
}
