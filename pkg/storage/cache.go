// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"k8s.io/utils/lru"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// cachedRecords bounds the cache; a record takes a few KiB.
const cachedRecords = 20_000

// recordCache keeps records by key and ETag. Records are immutable, so what it has is never stale; what was deleted is
// not asked for again. Safe for concurrent use.
type recordCache struct {
	lru *lru.Cache
}

type cacheKey struct{ key, etag string }

func newRecordCache() *recordCache { return &recordCache{lru: lru.New(cachedRecords)} }

// get returns a copy, or nil.
func (c *recordCache) get(o Object) *v1alpha1.CoreDump {
	if rec, ok := c.lru.Get(cacheKey{o.Key, o.ETag}); ok {
		return rec.(*v1alpha1.CoreDump).DeepCopy()
	}
	return nil
}

// add keeps a copy of rec. An object without an ETag cannot be told from its successor and is not kept.
func (c *recordCache) add(o Object, rec *v1alpha1.CoreDump) {
	if o.ETag != "" {
		c.lru.Add(cacheKey{o.Key, o.ETag}, rec.DeepCopy())
	}
}
