// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"time"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// Presigner is what a Bucket can do besides where its store has URLs. Safe for concurrent use.
type Presigner interface {
	// Presign gives a URL by which anybody can GET the object for as long as ttl, which is whole seconds and at most 7 days, without
	// credentials. It ends earlier if the credentials that it was made with do. Whether there is such an object it does not say.
	Presign(ctx context.Context, key string, ttl time.Duration) (url string, err error)
}

// Presign gives a URL of the body of the dump for as long as ttl, if CheckBody finds nothing wrong with it. The bucket must be a Presigner.
func (d *Dumps) Presign(ctx context.Context, rec *v1alpha1.CoreDump, ttl time.Duration) (string, error) {
	k, err := keyOf(rec)
	if err != nil {
		return "", err
	}
	p, ok := d.bucket.(Presigner)
	if !ok {
		return "", &Error{Op: "presign", Key: k.key, Kind: ErrInvalid, Err: errors.New("this store has no URLs")}
	}
	if _, err := d.CheckBody(ctx, rec); err != nil {
		return "", err
	}
	return p.Presign(ctx, k.key, ttl)
}

// Presign is Dumps.Presign.
func (n Known) Presign(ctx context.Context, rec *v1alpha1.CoreDump, ttl time.Duration) (string, error) {
	if err := refuse(rec); err != nil {
		return "", err
	}
	return n.dumps.Presign(ctx, rec, ttl)
}
