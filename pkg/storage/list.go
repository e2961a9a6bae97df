// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// recordFetches is how many records a list reads at a time.
const recordFetches = 16

// Scope narrows a list. Empty fields mean all; Pod needs Namespace and Container needs Pod.
type Scope struct {
	Namespace, Pod, Container string
}

// prefix is what the keys in scope begin with. There are none, and ok is false, where a name cannot be one.
func (s Scope) prefix() (prefix string, ok bool, err error) {
	if s.Namespace == "" && s.Pod != "" || s.Pod == "" && s.Container != "" {
		return "", false, fmt.Errorf("%w scope %+q: a pod needs its namespace, a container its pod", ErrInvalid, s)
	}
	for _, c := range []struct {
		name  string
		valid func(string) bool
	}{{s.Namespace, func(n string) bool { return ValidNamespace(n) || n == UnknownNamespace }}, {s.Pod, ValidPod}, {s.Container, ValidContainer}} {
		if c.name == "" {
			break
		}
		if !c.valid(c.name) {
			return "", false, nil
		}
		prefix += c.name + "/"
	}
	return prefix, true, nil
}

// Listed is an object of the layout.
type Listed struct {
	Entry
	Object Object
}

// Entries yields the objects in scope that match the layout, records, bodies and contexts, in the order of their keys, beginning
// after the key after. It reads no record.
func (d *Dumps) Entries(ctx context.Context, scope Scope, after string) iter.Seq2[Listed, error] {
	return entries(ctx, scope, after, d.bucket.List)
}

// lister lists objects as Bucket.List does.
type lister func(ctx context.Context, prefix, after string) iter.Seq2[Object, error]

func entries(ctx context.Context, scope Scope, after string, objects lister) iter.Seq2[Listed, error] {
	return func(yield func(Listed, error) bool) {
		prefix, ok, err := scope.prefix()
		if err != nil {
			yield(Listed{}, err)
		}
		if !ok {
			return
		}
		for obj, err := range objects(ctx, prefix, after) {
			if err != nil {
				yield(Listed{}, err)
				return
			}
			if e, ok := ParseKey(obj.Key); ok && !yield(Listed{e, obj}, nil) {
				return
			}
		}
	}
}

// Listing is a dump of a list, or the reason why its record cannot be used.
type Listing struct {
	Key Key
	// Record is nil where Err is not. It is shared: nobody changes it.
	Record *v1alpha1.CoreDump
	// Size is the length of the record in the bucket, in bytes.
	Size int64
	// Err is of kind ErrCorrupt and concerns this record alone.
	Err error
}

// List yields the dumps in scope, in the order of their keys, beginning after the key after (the key of a record). Records are read
// concurrently, a few ahead of the receiver. A record that cannot be understood is yielded as such;
// an error ends the list.
func (d *Dumps) List(ctx context.Context, scope Scope, after string) iter.Seq2[Listing, error] {
	return d.list(ctx, scope, after, d.bucket.List)
}

func (d *Dumps) list(ctx context.Context, scope Scope, after string, objects lister) iter.Seq2[Listing, error] {
	return d.listUpTo(ctx, scope, after, objects, 0)
}

// listUpTo asks the bucket for nothing beyond the first n records until the receiver wants more than those; with 0 it always reads ahead.
func (d *Dumps) listUpTo(ctx context.Context, scope Scope, after string, objects lister, n int) iter.Seq2[Listing, error] {
	return func(yield func(Listing, error) bool) {
		reading, cancel := context.WithCancel(ctx)
		more := make(chan struct{})
		ahead, done := d.readAhead(reading, entries(reading, scope, after, objects), n, more)
		defer done()
		defer cancel()
		received := 0
		for result := range ahead {
			l := <-result
			deleted := errors.Is(l.err, ErrNotFound) || errors.Is(l.err, ErrChanged) // since it was listed
			if !deleted && (!yield(l.Listing, l.err) || l.err != nil) {
				return
			}
			if received++; received == n {
				close(more)
			}
		}
		if err := ctx.Err(); err != nil {
			yield(Listing{}, err) // cut short is not the end
		}
	}
}

type fetched struct {
	Listing
	err error
}

// readAhead sends, in order, a channel for every record, on which what was read arrives. It ends with the list or
// with ctx; done waits until nothing of it runs any more. After n records, if n is not 0, it waits for more.
func (d *Dumps) readAhead(ctx context.Context, all iter.Seq2[Listed, error], n int, more <-chan struct{}) (_ <-chan chan fetched, done func()) {
	var running sync.WaitGroup
	ahead := make(chan chan fetched, recordFetches)
	send := func(result chan fetched) bool {
		select {
		case ahead <- result:
			return true
		case <-ctx.Done():
			return false
		}
	}
	running.Go(func() {
		defer close(ahead)
		sent := 0
		for e, err := range all {
			result := make(chan fetched, 1)
			if err != nil {
				result <- fetched{err: err}
				send(result)
				return
			}
			if !e.IsRecord {
				continue
			}
			rec := d.cache.get(e.Object)
			if rec != nil {
				result <- fetched{Listing: Listing{Key: e.Key, Record: rec, Size: e.Object.Size}}
			}
			if !send(result) {
				return
			}
			if rec == nil {
				running.Go(func() { result <- d.fetch(ctx, e) })
			}
			if sent++; sent == n {
				select {
				case <-more:
				case <-ctx.Done():
					return
				}
			}
		}
	})
	return ahead, running.Wait
}

func (d *Dumps) fetch(ctx context.Context, e Listed) fetched {
	rec, err := d.record(ctx, e.Key, e.Object)
	if errors.Is(err, ErrCorrupt) {
		return fetched{Listing: Listing{Key: e.Key, Size: e.Object.Size, Err: err}}
	}
	return fetched{Listing: Listing{Key: e.Key, Record: rec, Size: e.Object.Size}, err: err}
}

// Namespaces yields the names of the namespaces that have anything in the bucket, in the order of their keys. UnknownNamespace is none.
func (d *Dumps) Namespaces(ctx context.Context) iter.Seq2[string, error] {
	return d.dirs(ctx, "", "", ValidNamespace)
}

// Pods yields the names of the pods that have anything in the bucket in the namespace, in the order of their keys ("a-b" before
// "a"), after the name after.
func (d *Dumps) Pods(ctx context.Context, namespace, after string) iter.Seq2[string, error] {
	if !ValidNamespace(namespace) {
		return func(func(string, error) bool) {} // there can be none
	}
	return d.dirs(ctx, namespace+"/", after, ValidPod)
}

func (d *Dumps) dirs(ctx context.Context, prefix, after string, valid func(string) bool) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for name, err := range d.bucket.ListDirs(ctx, prefix, after) {
			if err == nil && !valid(name) {
				continue
			}
			if !yield(name, err) || err != nil {
				return
			}
		}
	}
}
