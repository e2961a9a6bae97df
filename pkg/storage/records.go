// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// recordReads is how many records are read at a time, by all lists together.
const recordReads = 64

// LimitCache bounds the memory, in bytes, for records that are kept after they were read; it is to be called before d is used. It is about what they take: the
// length of their JSON and some for each.
func (d *Dumps) LimitCache(limit int64) { d.cache = newRecordCache(limit) }

// record gives the record whose object is known, from the cache or from the bucket. It is shared: nobody changes it. Several who want the same at a time
// read it once.
func (d *Dumps) record(ctx context.Context, k Key, obj Object) (*v1alpha1.CoreDump, error) {
	for {
		rec, other, mine := d.cache.getOrFill(obj)
		switch {
		case rec != nil:
			return rec, nil
		case mine != nil:
			defer d.cache.filled(obj, mine)
			mine.rec, mine.err = d.read(ctx, k, obj)
			return mine.rec, mine.err
		}
		select {
		case <-other.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if !endedEarly(other.err) {
			return other.rec, other.err
		}
	}
}

// endedEarly tells whether a read failed because of who read and not because of what was read.
func endedEarly(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (d *Dumps) read(ctx context.Context, k Key, obj Object) (*v1alpha1.CoreDump, error) {
	if obj.Size > MaxRecordSize {
		return nil, &Error{Op: "read", Key: obj.Key, Kind: ErrCorrupt, Err: fmt.Errorf("record of %d bytes: at most %d are allowed", obj.Size, MaxRecordSize)}
	}
	select {
	case d.cache.reads <- struct{}{}:
		defer func() { <-d.cache.reads }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r, err := d.bucket.Open(ctx, obj.Key, obj.ETag, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, MaxRecordSize+1))
	if err != nil {
		return nil, named("read", obj.Key, err)
	}
	rec, err := DecodeRecord(k, data, obj.LastModified)
	if err != nil {
		return nil, &Error{Op: "read", Key: obj.Key, Err: err}
	}
	d.cache.add(obj, rec, len(data))
	return rec, nil
}

// ListUpTo is List for who does not expect to want more than most dumps (0: all): the bucket is asked for no more until he does.
func (n Known) ListUpTo(ctx context.Context, scope Scope, after string, most int) iter.Seq2[Listing, error] {
	if scope.Namespace == UnknownNamespace {
		return func(func(Listing, error) bool) {} // there can be none
	}
	return n.dumps.listUpTo(ctx, scope, after, n.objects, most)
}

// Records yields the records in scope, in the order of their keys, without reading them.
func (n Known) Records(ctx context.Context, scope Scope) iter.Seq2[Listed, error] {
	return func(yield func(Listed, error) bool) {
		if scope.Namespace == UnknownNamespace {
			return // there can be none
		}
		for l, err := range entries(ctx, scope, "", n.objects) {
			if (err != nil || l.IsRecord) && !yield(l, err) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(Listed{}, err) // cut short is not the end
		}
	}
}

// Read reads a record that Records has yielded. One that is gone is ErrNotFound or ErrChanged; one that cannot be understood has Listing.Err.
func (n Known) Read(ctx context.Context, l Listed) (Listing, error) {
	if l.Unknown() {
		return Listing{}, &Error{Op: "read", Key: l.Record(), Kind: ErrNotFound}
	}
	f := n.dumps.fetch(ctx, l)
	return f.Listing, f.err
}

// Remembered gives a record that was read before if it is still kept, and nil otherwise. It does not ask the bucket, so what it gives may be deleted. It is
// shared: nobody changes it.
func (n Known) Remembered(l Listed) *v1alpha1.CoreDump {
	if l.Unknown() {
		return nil
	}
	return n.dumps.cache.get(l.Object)
}

// Bare is what is known of a dump from its key alone.
func Bare(k Key) *v1alpha1.CoreDump {
	d := &v1alpha1.CoreDump{}
	d.Spec.PodName, d.Spec.ContainerName = k.Pod, k.Container
	identify(k, d)
	return d
}
