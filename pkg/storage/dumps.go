// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/seekable"
)

// Dumps are the core dumps in a bucket. It keeps the protocol: a dump exists if and only if its record exists; the
// context, where there is one, and the body are complete before the record is written, and the record is gone before they are
// removed. What a crash in between leaves is a context or a body without a record, which gc finds. Safe for concurrent use.
//
// Who serves dumps to others does so by Known, which has only those of which it is known whose they are.
type Dumps struct {
	bucket Bucket
	cache  *recordCache
	bodies *lru[bodyKey, body]
	tables *lru[tableKey, *seekable.Table]
	long   chan struct{} // has an element for each long seek table that is being read
}

// NewDumps gives the dumps in the bucket.
func NewDumps(b Bucket) *Dumps {
	return &Dumps{
		bucket: b, cache: newRecordCache(defaultCacheSize),
		bodies: newLRU[bodyKey, body](bodyCacheSize), tables: newLRU[tableKey, *seekable.Table](tableCacheSize), long: make(chan struct{}, longTables),
	}
}

// Bucket is where the dumps are.
func (d *Dumps) Bucket() Bucket { return d.bucket }

// Exists tells whether the dump has been committed. A store that answers that we may not know counts as no: without
// the right to list, Amazon S3 says 403 for what is not there.
func (d *Dumps) Exists(ctx context.Context, k Key) (bool, error) {
	_, err := d.bucket.Stat(ctx, k.Record())
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrDenied):
		return false, nil
	}
	return false, err
}

// Body is what Commit stores.
type Body struct {
	// Reader yields the bytes as they shall be stored, compressed by Codec. It is not closed.
	Reader io.Reader
	Codec  Codec
	// MaxSize is an upper bound of the number of bytes; see PutOptions.
	MaxSize int64
	// Context is stored beside the body: a bundle as bundle.Encode makes it, of at most MaxContextSize bytes; empty for none.
	Context []byte
}

// Commit stores a dump. It puts the context if there is one, and the body, then asks record for what is to be said of it, completes that
// with what the store has confirmed (codec, stored size, checksum, context), and puts that. What an earlier attempt has left of context
// and body is overwritten; the context of one, where this one has none, stays beside the dump until that is removed, and no record says so.
// It fails with ErrExists where the dump has been
// committed before, and has not read the body then, unless the store does not let us ask. After any other error
// the dump does not exist, or, if the store's answer to the last write was lost, Exists tells.
// Only one caller at a time may commit the same key.
func (d *Dumps) Commit(ctx context.Context, k Key, body Body, record func(stored Object) (*v1alpha1.CoreDump, error)) error {
	if err := k.Validate(); err != nil {
		return err
	}
	if !body.Codec.valid() {
		return fmt.Errorf("%w codec %.20q", ErrInvalid, body.Codec)
	}
	about, err := describeContext(k, body.Context)
	if err != nil {
		return err
	}
	exists, err := d.Exists(ctx, k)
	if err != nil {
		return err
	}
	if exists {
		return &Error{Op: "commit", Key: k.Record(), Kind: ErrExists}
	}
	if err := d.putContext(ctx, k, body.Context); err != nil {
		return err
	}
	stored, err := d.bucket.Put(ctx, k.Body(body.Codec), body.Reader, PutOptions{MaxSize: body.MaxSize, ContentType: "application/octet-stream"})
	if err != nil {
		return err
	}
	rec, err := record(stored)
	if err != nil {
		return err
	}
	rec = rec.DeepCopy()
	rec.Status.Codec, rec.Status.StoredSize, rec.Status.Checksum = string(body.Codec), stored.Size, stored.Checksum
	rec.Status.Context = about
	data, err := EncodeRecord(k, rec)
	if err != nil {
		return &Error{Op: "commit", Key: k.Record(), Err: err}
	}
	_, err = d.bucket.Put(ctx, k.Record(), bytes.NewReader(data), PutOptions{IfAbsent: true, MaxSize: int64(len(data)), ContentType: "application/json"})
	if errors.Is(err, ErrExists) && d.holds(ctx, k.Record(), data) {
		return nil // the answer to our request was lost and it was made again
	}
	return err
}

// holds tells whether the object under key is data.
func (d *Dumps) holds(ctx context.Context, key string, data []byte) bool {
	r, err := d.bucket.Open(ctx, key, "", 0, int64(len(data))+1)
	if err != nil {
		return false
	}
	defer r.Close()
	there, err := io.ReadAll(r)
	return err == nil && bytes.Equal(there, data)
}

// Get reads the record of a dump. The caller owns it.
func (d *Dumps) Get(ctx context.Context, k Key) (*v1alpha1.CoreDump, error) {
	if err := k.Validate(); err != nil {
		return nil, err
	}
	obj, err := d.bucket.Stat(ctx, k.Record())
	if err != nil {
		return nil, err
	}
	rec, err := d.record(ctx, k, obj)
	return rec.DeepCopy(), err // nil of nil
}

// OpenCore opens the core, decompressed. The reader fails with ErrCorrupt where the bytes are not those of the
// record (more, fewer, another SHA-256), at the latest in place of the last bytes; like OpenBody it goes on after a break. The caller closes it.
func (d *Dumps) OpenCore(ctx context.Context, rec *v1alpha1.CoreDump) (io.ReadCloser, error) {
	body, err := d.OpenBody(ctx, rec, 0, -1)
	if err != nil {
		return nil, err
	}
	k, _ := ParseName(rec.Namespace, rec.Name)
	key := k.Body(Codec(rec.Status.Codec))
	core, err := Codec(rec.Status.Codec).NewReader(body)
	if err != nil {
		body.Close()
		return nil, named("open", key, err)
	}
	return newVerifier(unpacked{core, body}, key, rec.Status.Size, rec.Status.SHA256), nil
}

// Delete removes dumps: their records first, then their bodies and contexts. What it could not remove it returns, with the
// first reason. Body and context stay where the record could not be removed.
func (d *Dumps) Delete(ctx context.Context, entries ...Entry) (failed []Entry, err error) {
	var records, others []Entry
	for _, e := range entries {
		if e.IsRecord {
			records = append(records, e)
		} else {
			others = append(others, e)
		}
	}
	failed, err = d.remove(ctx, records)
	kept := map[Key]bool{}
	for _, e := range failed {
		kept[e.Key] = true
	}
	others, skipped := split(others, kept)
	failed = append(failed, skipped...)
	failedOthers, othersErr := d.remove(ctx, others)
	if err == nil {
		err = othersErr
	}
	return append(failed, failedOthers...), err
}

func split(entries []Entry, kept map[Key]bool) (rest, skipped []Entry) {
	for _, e := range entries {
		if kept[e.Key] {
			skipped = append(skipped, e)
		} else {
			rest = append(rest, e)
		}
	}
	return rest, skipped
}

func (d *Dumps) remove(ctx context.Context, entries []Entry) (failed []Entry, err error) {
	if len(entries) == 0 {
		return nil, nil
	}
	byKey := make(map[string]Entry, len(entries))
	keys := make([]string, 0, len(entries))
	for _, e := range entries {
		byKey[e.String()] = e
		keys = append(keys, e.String())
	}
	left, err := d.bucket.Delete(ctx, keys...)
	for _, key := range left {
		failed = append(failed, byKey[key])
	}
	return failed, err
}
