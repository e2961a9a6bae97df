// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"example.io/coredump/pkg/storage"
)

var _ storage.Presigner = &Bucket{}

// Presign implements storage.Presigner by SigV4 in the query. It asks no store, except for credentials where they have to be fetched.
func (b *Bucket) Presign(ctx context.Context, key string, ttl time.Duration) (string, error) {
	if err := storage.CheckKey(key); err != nil {
		return "", b.fail(ctx, "presign", key, err)
	}
	req, err := s3.NewPresignClient(b.client, s3.WithPresignExpires(ttl)).PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &b.opts.Bucket, Key: b.full(key)})
	if err != nil {
		return "", b.fail(ctx, "presign", key, err)
	}
	return req.URL, nil
}
