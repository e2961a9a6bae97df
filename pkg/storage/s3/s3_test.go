// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/storagetest"
)

var buckets atomic.Int64

// options are those of a new bucket on the server, with the smallest parts, so that little data makes many.
func options(t *testing.T, s *storagetest.S3) Options {
	t.Helper()
	name := fmt.Sprintf("bucket-%d", buckets.Add(1))
	if err := os.Mkdir(filepath.Join(s.Dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	return Options{Bucket: name, Endpoint: s.Endpoint, PathStyle: true, CAFile: s.CAFile, PartSize: MinPartSize}
}

func open(t *testing.T, opts Options) *Bucket {
	t.Helper()
	b, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBucket(t *testing.T) {
	s := storagetest.StartS3(t)
	s.Setenv(t)
	storagetest.Run(t, func(t *testing.T) storage.Bucket { return open(t, options(t, s)) })
}

func TestBucketBelowAPrefixOverTLS(t *testing.T) {
	s := storagetest.StartS3With(t, storagetest.S3Options{TLS: true})
	s.Setenv(t)
	storagetest.Run(t, func(t *testing.T) storage.Bucket {
		opts := options(t, s)
		// What is beside the prefix is not ours: the suite must not see it.
		for _, prefix := range []string{"", "some", "some/prefix-2", "some/prefi"} {
			opts.Prefix = prefix
			if _, err := open(t, opts).Put(t.Context(), "ns/foreign", storagetest.Stream(nil), storage.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		opts.Prefix = "some/prefix"
		return open(t, opts)
	})
}
