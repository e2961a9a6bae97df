// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"context"
	"io"
	"iter"
	"sync"

	"example.io/coredump/pkg/storage"
)

// Op is a method of storage.Bucket.
type Op string

// The methods, as Faulty knows them.
const (
	OpPut      Op = "put"
	OpOpen     Op = "open"
	OpStat     Op = "stat"
	OpList     Op = "list"
	OpListDirs Op = "list dirs"
	OpDelete   Op = "delete"
	OpUploads  Op = "list uploads"
	OpAbort    Op = "abort upload"
	OpPing     Op = "ping"
)

// Faulty passes every call on to a bucket, fails where its hooks say so and remembers what was called. The hooks are set
// before it is used and may be called concurrently; a hook may block, to hold a call.
type Faulty struct {
	storage.Bucket
	// Before is called before every call, with the key or the prefix (Delete: once for each key). An error of it is what the call
	// returns, without the bucket being asked.
	Before func(op Op, key string) error
	// After is called after every call that succeeded, for Put, Stat, Delete (once for each key), AbortUpload and Ping. An error
	// of it is what the call returns: the answer that got lost.
	After func(op Op, key string) error
	// Cut is called for every reader that was opened. One that it cuts yields n bytes and then err.
	Cut func(key string) (n int64, err error)

	mu    sync.Mutex
	calls []Call
}

var _ storage.Bucket = &Faulty{}

// Call is a call of a method. The key is the prefix of a list; a Delete is a call for each key.
type Call struct {
	Op  Op
	Key string
}

// Calls gives the calls there have been, in order.
func (f *Faulty) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Call(nil), f.calls...)
}

// Count counts the calls of a method.
func (f *Faulty) Count(op Op) (n int) {
	for _, c := range f.Calls() {
		if c.Op == op {
			n++
		}
	}
	return n
}

func (f *Faulty) before(op Op, key string) error {
	f.mu.Lock()
	f.calls = append(f.calls, Call{op, key})
	f.mu.Unlock()
	if f.Before == nil {
		return nil
	}
	return f.Before(op, key)
}

func (f *Faulty) after(op Op, key string, err error) error {
	if err != nil || f.After == nil {
		return err
	}
	return f.After(op, key)
}

// Put implements storage.Bucket.
func (f *Faulty) Put(ctx context.Context, key string, r io.Reader, opts storage.PutOptions) (storage.Object, error) {
	if err := f.before(OpPut, key); err != nil {
		return storage.Object{}, err
	}
	obj, err := f.Bucket.Put(ctx, key, r, opts)
	return obj, f.after(OpPut, key, err)
}

// Open implements storage.Bucket.
func (f *Faulty) Open(ctx context.Context, key, etag string, offset, length int64) (io.ReadCloser, error) {
	if err := f.before(OpOpen, key); err != nil {
		return nil, err
	}
	r, err := f.Bucket.Open(ctx, key, etag, offset, length)
	if err != nil || f.Cut == nil {
		return r, err
	}
	n, cut := f.Cut(key)
	if cut == nil {
		return r, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r, n), failing{cut}), r}, nil
}

// Stat implements storage.Bucket.
func (f *Faulty) Stat(ctx context.Context, key string) (storage.Object, error) {
	if err := f.before(OpStat, key); err != nil {
		return storage.Object{}, err
	}
	obj, err := f.Bucket.Stat(ctx, key)
	return obj, f.after(OpStat, key, err)
}

// List implements storage.Bucket.
func (f *Faulty) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Object, error] {
	return faultySeq(f, OpList, prefix, f.Bucket.List(ctx, prefix, after))
}

// ListDirs implements storage.Bucket.
func (f *Faulty) ListDirs(ctx context.Context, prefix, after string) iter.Seq2[string, error] {
	return faultySeq(f, OpListDirs, prefix, f.Bucket.ListDirs(ctx, prefix, after))
}

// Uploads implements storage.Bucket.
func (f *Faulty) Uploads(ctx context.Context) iter.Seq2[storage.Upload, error] {
	return faultySeq(f, OpUploads, "", f.Bucket.Uploads(ctx))
}

func faultySeq[T any](f *Faulty, op Op, key string, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		if err := f.before(op, key); err != nil {
			var none T
			yield(none, err)
			return
		}
		seq(yield)
	}
}

// Delete implements storage.Bucket. The keys that a hook fails stay; the others are deleted.
func (f *Faulty) Delete(ctx context.Context, keys ...string) (failed []string, first error) {
	failure := func(key string, err error) {
		failed = append(failed, key)
		if first == nil {
			first = err
		}
	}
	var rest []string
	for _, key := range keys {
		if err := f.before(OpDelete, key); err != nil {
			failure(key, err)
		} else {
			rest = append(rest, key)
		}
	}
	left, err := f.Bucket.Delete(ctx, rest...)
	for _, key := range left {
		failure(key, err)
	}
	for _, key := range rest {
		if err := f.after(OpDelete, key, err); err != nil && len(left) == 0 {
			failure(key, err)
		}
	}
	return failed, first
}

// AbortUpload implements storage.Bucket.
func (f *Faulty) AbortUpload(ctx context.Context, u storage.Upload) error {
	if err := f.before(OpAbort, u.Key); err != nil {
		return err
	}
	return f.after(OpAbort, u.Key, f.Bucket.AbortUpload(ctx, u))
}

// Ping implements storage.Bucket.
func (f *Faulty) Ping(ctx context.Context) error {
	if err := f.before(OpPing, ""); err != nil {
		return err
	}
	return f.after(OpPing, "", f.Bucket.Ping(ctx))
}
