// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"context"
	"fmt"
	"iter"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"example.io/coredump/pkg/storage"
)

// List implements storage.Bucket.
func (b *Bucket) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Object, error] {
	return func(yield func(storage.Object, error) bool) {
		in := &s3.ListObjectsV2Input{Prefix: b.full(prefix)}
		if after != "" {
			in.StartAfter = b.full(after)
		}
		last := after
		for out, err := range b.pages(ctx, in) {
			if err != nil {
				yield(storage.Object{}, b.fail(ctx, "list", prefix, err))
				return
			}
			for _, o := range out.Contents {
				key, err := b.relative(o.Key, out.EncodingType)
				if err == nil && key != "" && key <= last {
					err = fmt.Errorf("%w list: %.80q comes after %.80q, and keys must come in the order of their bytes", storage.ErrCorrupt, key, last)
				}
				if err != nil {
					yield(storage.Object{}, b.fail(ctx, "list", prefix, err))
					return
				}
				if last = key; key == "" {
					continue // an object that stands for the directory
				}
				if !yield(storage.Object{Key: key, Size: aws.ToInt64(o.Size), ETag: unquote(o.ETag), LastModified: modified(o.LastModified)}, nil) {
					return
				}
			}
		}
	}
}

// ListDirs implements storage.Bucket.
func (b *Bucket) ListDirs(ctx context.Context, prefix, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		in := &s3.ListObjectsV2Input{Prefix: b.full(prefix), Delimiter: aws.String("/")}
		if after != "" {
			in.StartAfter = b.full(prefix + after + "0") // "0" follows "/": after all that begins with after/
		}
		for out, err := range b.pages(ctx, in) {
			if err != nil {
				yield("", b.fail(ctx, "list", prefix, err))
				return
			}
			for _, p := range out.CommonPrefixes {
				key, err := b.relative(p.Prefix, out.EncodingType)
				if err != nil {
					yield("", b.fail(ctx, "list", prefix, err))
					return
				}
				dir := strings.TrimSuffix(strings.TrimPrefix(key, prefix), "/")
				if dir != "" && !yield(dir, nil) {
					return
				}
			}
		}
	}
}

// pages yields the pages of a list.
func (b *Bucket) pages(ctx context.Context, in *s3.ListObjectsV2Input) iter.Seq2[*s3.ListObjectsV2Output, error] {
	return func(yield func(*s3.ListObjectsV2Output, error) bool) {
		in.Bucket = &b.opts.Bucket
		in.EncodingType = types.EncodingTypeUrl // keys may hold what XML cannot
		for {
			out, err := b.client.ListObjectsV2(ctx, in)
			if err == nil && aws.ToBool(out.IsTruncated) && aws.ToString(out.NextContinuationToken) == "" {
				err = errNoNext
			}
			if !yield(out, err) || err != nil || !aws.ToBool(out.IsTruncated) {
				return
			}
			in.ContinuationToken = out.NextContinuationToken
		}
	}
}

var errNoNext = fmt.Errorf("%w list: the store says that it goes on, but not where", storage.ErrCorrupt)

// relative is the key without the prefix.
func (b *Bucket) relative(key *string, encoding types.EncodingType) (string, error) {
	s, err := unescaped(key, encoding)
	if err != nil {
		return "", err
	}
	rest, ok := strings.CutPrefix(s, b.prefix)
	if !ok {
		return "", fmt.Errorf("%w list: %.80q does not begin with %q", storage.ErrCorrupt, s, b.prefix)
	}
	return rest, nil
}

func unescaped(key *string, encoding types.EncodingType) (string, error) {
	if encoding != types.EncodingTypeUrl {
		return aws.ToString(key), nil
	}
	s, err := url.QueryUnescape(aws.ToString(key))
	if err != nil {
		return "", fmt.Errorf("%w list: key %.80q: %w", storage.ErrCorrupt, aws.ToString(key), err)
	}
	return s, nil
}

// Uploads implements storage.Bucket.
func (b *Bucket) Uploads(ctx context.Context) iter.Seq2[storage.Upload, error] {
	return func(yield func(storage.Upload, error) bool) {
		in := &s3.ListMultipartUploadsInput{Bucket: &b.opts.Bucket, Prefix: &b.prefix, EncodingType: types.EncodingTypeUrl}
		for {
			out, err := b.client.ListMultipartUploads(ctx, in)
			if err != nil {
				yield(storage.Upload{}, b.fail(ctx, "list uploads", "", err))
				return
			}
			for _, u := range out.Uploads {
				key, err := b.relative(u.Key, out.EncodingType)
				if err != nil {
					yield(storage.Upload{}, b.fail(ctx, "list uploads", "", err))
					return
				}
				if !yield(storage.Upload{Key: key, ID: aws.ToString(u.UploadId), Initiated: aws.ToTime(u.Initiated)}, nil) {
					return
				}
			}
			if !aws.ToBool(out.IsTruncated) {
				return
			}
			next, err := unescaped(out.NextKeyMarker, out.EncodingType)
			if err == nil && next == "" {
				err = errNoNext
			}
			if err != nil {
				yield(storage.Upload{}, b.fail(ctx, "list uploads", "", err))
				return
			}
			in.KeyMarker, in.UploadIdMarker = &next, out.NextUploadIdMarker
		}
	}
}

// AbortUpload implements storage.Bucket.
func (b *Bucket) AbortUpload(ctx context.Context, u storage.Upload) error {
	err := storage.CheckKey(u.Key)
	if err == nil {
		_, err = b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.opts.Bucket, Key: b.full(u.Key), UploadId: &u.ID})
	}
	if code(err) == noSuchUpload {
		return nil
	}
	return b.fail(ctx, "abort upload", u.Key, err)
}
