// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package watching makes watches of a bucket that tells nobody when it changes. While somebody watches, a poller lists the keys in scope every few seconds and compares
// them with what it saw before; all who watch the same share it. Only records that are new are read. When the last one leaves, the polling stops; what was seen last and
// what changed recently are kept for a while, so that who comes back goes on where he was.
//
// Changes are delivered at least once, and those of one object in their order: a client that resumes may see some again, as it may from any API server. Who asks for changes since a
// resource version (package revision) of which it is not known what changed since gets 410 Expired, as from any API server, and lists again.
package watching

import (
	"context"
	"iter"

	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
)

// Source is what is watched; storage.Known is one.
type Source interface {
	Records(ctx context.Context, scope storage.Scope) iter.Seq2[storage.Listed, error]
	Read(ctx context.Context, l storage.Listed) (storage.Listing, error)
	Remembered(l storage.Listed) *v1alpha1.CoreDump
}

// View is which dumps in scope may be seen.
type View struct {
	// Everything is true where all may be seen. Otherwise it is those of the namespace with the UID, for as long as that is the one that lives; empty means that none lives.
	Everything bool
	UID        string
}

// Sees tells whether the view has the dump.
func (v View) Sees(d *v1alpha1.CoreDump) bool {
	return v.Everything || v.UID != "" && d.Spec.NamespaceUID == v.UID
}

// Request is what one client watches. The functions are called by one goroutine at a time.
type Request struct {
	Scope   storage.Scope
	View    View
	Options *metainternalversion.ListOptions
	// New gives an empty object, for bookmarks.
	New func() runtime.Object
	// Initial yields what there is.
	Initial func(ctx context.Context) iter.Seq2[runtime.Object, error]
	// Events gives what changes mean to this client. It owns the objects.
	Events func(ctx context.Context, b *Batch) ([]watch.Event, error)
	// Status turns an error into a Status.
	Status func(err error) error

	source Source // of the Hub
}

// Objects yields what object makes of each of all, for Request.Initial.
func Objects[T any](all iter.Seq2[T, error], object func(T) runtime.Object) iter.Seq2[runtime.Object, error] {
	return func(yield func(runtime.Object, error) bool) {
		for one, err := range all {
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(object(one), nil) {
				return
			}
		}
	}
}

// Change is a change of a dump that the view has.
type Change struct {
	// Type is watch.Added, watch.Modified or watch.Deleted.
	Type watch.EventType
	// Dump is as it is now, or as it was last where it was deleted. It is shared: nobody changes it.
	Dump *v1alpha1.CoreDump
	// Bare is true for a deleted dump of which nothing is known any more but its key. Selectors cannot tell whether they fit.
	Bare bool

	size int64 // of the record, in bytes
}
