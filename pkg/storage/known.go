// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"io"
	"iter"
	"strings"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// Known are the dumps of which it is known whose they are: all but those below UnknownNamespace. It is what may be served to people: a
// dump of which nobody could say whose it is may be anybody's, and a name that was guessed would show one tenant's memory
// to another. It answers as if there were no others, whoever asks. Safe for concurrent use.
type Known struct{ dumps *Dumps }

// Known gives the dumps of which it is known whose they are.
func (d *Dumps) Known() Known { return Known{d} }

// Get is Dumps.Get.
func (n Known) Get(ctx context.Context, k Key) (*v1alpha1.CoreDump, error) {
	if k.Unknown() {
		return nil, &Error{Op: "get", Key: k.Record(), Kind: ErrNotFound}
	}
	return n.dumps.Get(ctx, k)
}

// List is Dumps.List. The scope of all namespaces is that of all that are known.
func (n Known) List(ctx context.Context, scope Scope, after string) iter.Seq2[Listing, error] {
	if scope.Namespace == UnknownNamespace {
		return func(func(Listing, error) bool) {} // there can be none
	}
	return n.dumps.list(ctx, scope, after, n.objects)
}

// objects lists the bucket without what is below UnknownNamespace, of which it reads one page at most.
func (n Known) objects(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	const inside, behind = UnknownNamespace + "/", UnknownNamespace + "0" // "0" is the byte after "/"
	return func(yield func(Object, error) bool) {
		for again := true; again; {
			again = false
			for obj, err := range n.dumps.bucket.List(ctx, prefix, after) {
				if err == nil && strings.HasPrefix(obj.Key, inside) {
					after, again = behind, true
					break
				}
				if !yield(obj, err) || err != nil {
					return
				}
			}
		}
	}
}

// OpenCore is Dumps.OpenCore.
func (n Known) OpenCore(ctx context.Context, rec *v1alpha1.CoreDump) (io.ReadCloser, error) {
	if err := refuse(rec); err != nil {
		return nil, err
	}
	return n.dumps.OpenCore(ctx, rec)
}

// OpenCoreRange is Dumps.OpenCoreRange.
func (n Known) OpenCoreRange(ctx context.Context, rec *v1alpha1.CoreDump, offset, length int64) (io.ReadCloser, error) {
	if err := refuse(rec); err != nil {
		return nil, err
	}
	return n.dumps.OpenCoreRange(ctx, rec, offset, length)
}

// OpenBody is Dumps.OpenBody.
func (n Known) OpenBody(ctx context.Context, rec *v1alpha1.CoreDump, offset, length int64) (io.ReadCloser, error) {
	if err := refuse(rec); err != nil {
		return nil, err
	}
	return n.dumps.OpenBody(ctx, rec, offset, length)
}

// CheckBody is Dumps.CheckBody.
func (n Known) CheckBody(ctx context.Context, rec *v1alpha1.CoreDump) (BodyInfo, error) {
	if err := refuse(rec); err != nil {
		return BodyInfo{}, err
	}
	return n.dumps.CheckBody(ctx, rec)
}

// OpenContext is Dumps.OpenContext.
func (n Known) OpenContext(ctx context.Context, rec *v1alpha1.CoreDump) (io.ReadCloser, error) {
	if err := refuse(rec); err != nil {
		return nil, err
	}
	return n.dumps.OpenContext(ctx, rec)
}

// refuse keeps what is nobody's from everybody, whoever made the record.
func refuse(rec *v1alpha1.CoreDump) error {
	if rec.Namespace == UnknownNamespace {
		return &Error{Op: "open", Key: rec.Name, Kind: ErrNotFound}
	}
	return nil
}
