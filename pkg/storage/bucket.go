// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package storage keeps core dumps in a bucket: the layout of its keys, the record beside every
// core, the order in which they are written and deleted, and the bucket itself, for which there are two
// drivers (s3, file). It knows nothing of API servers.
package storage

import (
	"context"
	"io"
	"iter"
	"time"
)

// Bucket is a flat space of keys with objects in it. Reads and lists see every completed write
// (strong consistency, as Amazon S3 has had since December 2020). Implementations are safe for concurrent use.
//
// Keys are relative to the prefix that the bucket was opened with, use "/" between components, and sort
// by their bytes. CheckKey says which keys there can be.
//
// Errors are of a kind that errors.Is tells: ErrNotFound, ErrExists, ErrChanged, ErrCorrupt, ErrDenied,
// ErrUnavailable, ErrInvalid (see errors.go). They name the operation and the key, once. Those of a context that
// ended or of a reader that failed are of no kind and wrap the cause.
type Bucket interface {
	// Put stores all that r yields under key, in one piece or not at all: readers see what was there before or
	// all of it. When it returns nil, the store has confirmed size and checksum of what was sent.
	// Memory is bounded by the driver's configuration, not by the length of r. If r fails, Put
	// fails with that error, the key is as it was before, and nothing stays behind, not even an unfinished upload, unless
	// the process or the store dies before it could be removed. After any other error the key is as it was
	// before too, except that the answer to the last request may have been lost or wrong: whoever
	// must know asks again. r is read by one goroutine at a time and not closed.
	Put(ctx context.Context, key string, r io.Reader, opts PutOptions) (Object, error)

	// Open returns length bytes of the object from offset on; a negative length means all the rest. A range that ends
	// beyond the object is cut there; one that begins beyond it is ErrInvalid. With a non-empty
	// etag it fails with ErrChanged where the object's is another. The caller closes the reader, which ends when ctx does.
	// A reader that yields fewer bytes than there are ends with an error, never with io.EOF.
	Open(ctx context.Context, key, etag string, offset, length int64) (io.ReadCloser, error)

	// Stat describes the object.
	Stat(ctx context.Context, key string) (Object, error)

	// List yields the objects whose keys begin with prefix and sort after the key after (from the start, where it is empty), in the
	// order of their keys. It fetches pages as they are needed. The first error ends it; a context that ended is an error.
	List(ctx context.Context, prefix, after string) iter.Seq2[Object, error]

	// ListDirs yields the distinct next components, up to the next "/", of the keys below prefix, which is
	// empty or ends with "/", after the component after, without listing what is in them. Their order is that of the
	// keys: "a-b" comes before "a", as "a-b/" sorts before "a/".
	ListDirs(ctx context.Context, prefix, after string) iter.Seq2[string, error]

	// Delete removes the objects. A key that does not exist is no error. It returns the keys that it
	// could not remove with the first reason why; keys that it did not come to are among them.
	Delete(ctx context.Context, keys ...string) (failed []string, err error)

	// Uploads yields the uploads that were begun and neither completed nor removed.
	Uploads(ctx context.Context) iter.Seq2[Upload, error]

	// AbortUpload removes what there is of an unfinished upload. One that does not exist is no error.
	AbortUpload(ctx context.Context, u Upload) error

	// Ping asks the store whether it is there and lets us list, with as little work for it as possible. ErrDenied
	// means that it is there, which is all that credentials which may only write can learn.
	Ping(ctx context.Context) error
}

// PutOptions are the options of Bucket.Put.
type PutOptions struct {
	// IfAbsent makes Put fail with ErrExists where there is an object under the key. Of several writers at a time exactly one wins.
	IfAbsent bool
	// MaxSize is an upper bound of the length in bytes, or 0 where none is known. Drivers choose the size of parts by it:
	// without one, Put fails for what is longer than part size × 10,000.
	MaxSize int64
	// ContentType is the media type, for people who look into the bucket.
	ContentType string
}

// Object describes an object in a bucket.
type Object struct {
	// Key is relative to the bucket's prefix.
	Key string
	// Size in bytes.
	Size int64
	// ETag changes whenever the object does. Opaque.
	ETag string
	// LastModified is when the object was written, by the store's clock. Stat and List agree on it; Put may leave it zero.
	LastModified time.Time
	// Checksum is what the store itself computed, as <algorithm>:<value>. Only Put and Stat fill it, and only where the store has
	// one.
	Checksum string
}

// Upload is an unfinished upload.
type Upload struct {
	Key string
	// ID is the driver's own.
	ID string
	// Initiated is when it was begun, or last written to, by the store's clock.
	Initiated time.Time
}
