// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"example.io/coredump/pkg/storage"
)

// maxDelete is the number of keys that S3 allows a DeleteObjects.
const maxDelete = 1000

// Delete implements storage.Bucket.
func (b *Bucket) Delete(ctx context.Context, keys ...string) (failed []string, first error) {
	failure := func(err error, keys ...string) {
		failed = append(failed, keys...)
		if first == nil {
			first = b.fail(ctx, "delete", keys[0], err)
		}
	}
	var valid []string
	for _, key := range keys {
		if err := storage.CheckKey(key); err != nil {
			failure(err, key)
		} else {
			valid = append(valid, key)
		}
	}
	for batch := range slices.Chunk(valid, maxDelete) {
		left, err := b.deleteBatch(ctx, batch)
		if err != nil {
			failure(err, batch...)
			continue
		}
		for _, e := range left {
			failure(&smithy.GenericAPIError{Code: aws.ToString(e.Code), Message: aws.ToString(e.Message)}, strings.TrimPrefix(aws.ToString(e.Key), b.prefix))
		}
	}
	return failed, first
}

// deleteBatch returns the objects that are still there, with the reasons.
func (b *Bucket) deleteBatch(ctx context.Context, keys []string) ([]types.Error, error) {
	objects := make([]types.ObjectIdentifier, len(keys))
	for i, key := range keys {
		objects[i].Key = b.full(key)
	}
	out, err := b.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
		Bucket: &b.opts.Bucket, Delete: &types.Delete{Objects: objects, Quiet: aws.Bool(true)},
	})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(out.Errors, func(e types.Error) bool { return aws.ToString(e.Code) == "NoSuchKey" }), nil
}
