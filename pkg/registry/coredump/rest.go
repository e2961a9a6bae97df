// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package coredump serves the resource coredumps from the bucket.
package coredump

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
	"example.io/coredump/pkg/registry/status"
	"example.io/coredump/pkg/registry/unreadable"
	"example.io/coredump/pkg/registry/watching"
	"example.io/coredump/pkg/storage"
)

// Store is where the dumps are that may be served; storage.Known is one.
type Store interface {
	Get(ctx context.Context, k storage.Key) (*v1alpha1.CoreDump, error)
	ListUpTo(ctx context.Context, scope storage.Scope, after string, most int) iter.Seq2[storage.Listing, error]
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

var resource = v1alpha1.Resource("coredumps")

// REST serves coredumps: get, list and watch. There is no delete, because the namespace controller would use it
// when a namespace goes, and dumps must outlive their namespaces; gc removes them. Safe for concurrent use.
type REST struct {
	store      Store
	rule       *access.Rule
	unreadable *unreadable.Reporter
	hub        *watching.Hub
	now        func() time.Time
	room       room
}

// NewREST makes the storage. Now is the clock of ages.
func NewREST(store Store, rule *access.Rule, unreadable *unreadable.Reporter, hub *watching.Hub, now func() time.Time) *REST {
	return &REST{store: store, rule: rule, unreadable: unreadable, hub: hub, now: now, room: room{limit: maxListed}}
}

// New gives an empty object.
func (*REST) New() runtime.Object { return &v1alpha1.CoreDump{} }

// NewList gives an empty list.
func (*REST) NewList() runtime.Object { return &v1alpha1.CoreDumpList{} }

// Destroy has nothing to release.
func (*REST) Destroy() {}

// NamespaceScoped is true.
func (*REST) NamespaceScoped() bool { return true }

// GetSingularName is the name for one.
func (*REST) GetSingularName() string { return "coredump" }

// ShortNames are for kubectl. cd would be a shell's builtin.
func (*REST) ShortNames() []string { return []string{"cdump"} }

// Categories are not "all", as nobody who asks for all expects dumps, and not the name of a resource: kubectl get coredump
// NAME would take that for the category, and fail.
func (*REST) Categories() []string { return []string{"crashes"} }

// Get reads one dump.
func (r *REST) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	d, err := r.find(ctx, name)
	if err != nil {
		return nil, status.Of(ctx, err, resource, name)
	}
	return d, nil
}

// find gives the dump if there is one and the user may see it; otherwise it is not found, in either case alike.
func (r *REST) find(ctx context.Context, name string) (*v1alpha1.CoreDump, error) {
	namespace := request.NamespaceValue(ctx)
	key, err := storage.ParseName(namespace, name)
	if err != nil {
		return nil, err
	}
	d, err := r.store.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	seen, err := r.rule.View(namespace).Sees(ctx, d)
	if err != nil {
		return nil, err
	}
	if !seen {
		return nil, storage.ErrNotFound
	}
	return d, nil
}
