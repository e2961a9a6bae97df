// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"context"
	"errors"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// ServerTime is the time by the store's clock, to the second: the Date header of an answer (RFC 9110, 6.6.1). Ages of objects count by this
// clock, for it also says when they were written. It needs the right to list.
func (b *Bucket) ServerTime(ctx context.Context) (time.Time, error) {
	out, err := b.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.opts.Bucket})
	if err != nil {
		return time.Time{}, b.fail(ctx, "ask for the time", b.opts.Bucket, err)
	}
	t, ok := awsmiddleware.GetServerTime(out.ResultMetadata)
	if !ok || t.IsZero() {
		return time.Time{}, b.fail(ctx, "ask for the time", b.opts.Bucket, errors.New("the answer has no Date header"))
	}
	return t, nil
}
