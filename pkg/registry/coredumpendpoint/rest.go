// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package coredumpendpoint serves the resource coredumpendpoints: all dumps of one pod name as one object. The
// objects are nowhere stored; they are summed up from the records.
package coredumpendpoint

import (
	"context"
	"iter"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/access"
	"example.io/coredump/pkg/registry/revision"
	"example.io/coredump/pkg/registry/status"
	"example.io/coredump/pkg/registry/unreadable"
	"example.io/coredump/pkg/registry/watching"
	"example.io/coredump/pkg/storage"
)

// Store is where the dumps are that may be served; storage.Known is one.
type Store interface {
	List(ctx context.Context, scope storage.Scope, after string) iter.Seq2[storage.Listing, error]
}

var (
	_ rest.Storage              = (*REST)(nil)
	_ rest.Scoper               = (*REST)(nil)
	_ rest.SingularNameProvider = (*REST)(nil)
	_ rest.ShortNamesProvider   = (*REST)(nil)
	_ rest.CategoriesProvider   = (*REST)(nil)
	_ rest.Getter               = (*REST)(nil)
	_ rest.Lister               = (*REST)(nil)
	_ rest.Watcher              = (*REST)(nil)
)

var resource = v1alpha1.Resource("coredumpendpoints")

// REST serves coredumpendpoints: get, list and watch. Safe for concurrent use.
type REST struct {
	store      Store
	rule       *access.Rule
	unreadable *unreadable.Reporter
	hub        *watching.Hub
	now        func() time.Time
}

// NewREST makes the storage. Now is the clock of ages.
func NewREST(store Store, rule *access.Rule, unreadable *unreadable.Reporter, hub *watching.Hub, now func() time.Time) *REST {
	return &REST{store: store, rule: rule, unreadable: unreadable, hub: hub, now: now}
}

// New gives an empty object.
func (*REST) New() runtime.Object { return &v1alpha1.CoreDumpEndpoint{} }

// NewList gives an empty list.
func (*REST) NewList() runtime.Object { return &v1alpha1.CoreDumpEndpointList{} }

// Destroy has nothing to release.
func (*REST) Destroy() {}

// NamespaceScoped is true.
func (*REST) NamespaceScoped() bool { return true }

// GetSingularName is the name for one.
func (*REST) GetSingularName() string { return "coredumpendpoint" }

// ShortNames are for kubectl.
func (*REST) ShortNames() []string { return []string{"cdep"} }

// Categories are not "all", as nobody who asks for all expects dumps, and not the name of a resource: kubectl get coredump
// NAME would take that for the category, and fail.
func (*REST) Categories() []string { return []string{"crashes"} }

// Get sums up the dumps of the pod name, those that the user may see. There must be one.
func (r *REST) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	s := newSummary(request.NamespaceValue(ctx), name)
	for l, err := range r.dumps(ctx, name) {
		if err != nil {
			return nil, status.Of(ctx, err, resource, name)
		}
		s.add(l.Record)
	}
	if s.count == 0 {
		return nil, status.Of(ctx, storage.ErrNotFound, resource, name)
	}
	return s.endpoint(), nil
}

// dumps yields those of the pod name that the user may see, in the order of their keys.
func (r *REST) dumps(ctx context.Context, pod string) iter.Seq2[storage.Listing, error] {
	if !storage.ValidPod(pod) {
		return func(yield func(storage.Listing, error) bool) { yield(storage.Listing{}, storage.ErrInvalid) }
	}
	namespace := request.NamespaceValue(ctx)
	return r.visible(ctx, namespace, storage.Scope{Namespace: namespace, Pod: pod}, "", &revision.Set{})
}

// visible yields the dumps in scope that the user of a request in the namespace may see. Records that cannot be understood are
// reported and left out. All that are read are added to seen.
func (r *REST) visible(ctx context.Context, namespace string, scope storage.Scope, after string, seen *revision.Set) iter.Seq2[storage.Listing, error] {
	return func(yield func(storage.Listing, error) bool) {
		view := r.rule.View(namespace)
		for l, err := range r.store.List(ctx, scope, after) {
			if err == nil {
				seen.Add(l.Key.Record())
			}
			if err == nil && l.Err != nil {
				r.unreadable.Report(ctx, l.Key, l.Err)
				continue
			}
			sees := false
			if err == nil {
				sees, err = view.Sees(ctx, l.Record)
			}
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
