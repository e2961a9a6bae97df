// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import "example.io/coredump/pkg/apis/coredump/v1alpha1"

const (
	// cacheSize bounds the cache of records: the sum of the sizes of the JSON of what is in it, in bytes, with cacheOverhead for each.
	cacheSize = 32 << 20
	// cacheOverhead is what an entry takes beyond its texts.
	cacheOverhead = 1 << 10
)

// recordCache keeps the records that were used last, by key and ETag. Records are immutable, so what it has is never stale; what
// was deleted is not asked for again. Safe for concurrent use.
type recordCache struct {
	*lru[cacheKey, *v1alpha1.CoreDump]
}

type cacheKey struct{ key, etag string }

func newRecordCache(limit int64) recordCache {
	return recordCache{newLRU[cacheKey, *v1alpha1.CoreDump](limit)}
}

// get returns a copy, or nil.
func (c recordCache) get(o Object) *v1alpha1.CoreDump {
	rec, _ := c.lru.get(cacheKey{o.Key, o.ETag})
	return rec.DeepCopy()
}

// add keeps a copy of rec, whose JSON has n bytes. An object without an ETag cannot be told from its successor and is not kept.
func (c recordCache) add(o Object, rec *v1alpha1.CoreDump, n int) {
	if o.ETag != "" {
		c.lru.add(cacheKey{o.Key, o.ETag}, rec.DeepCopy(), int64(n)+cacheOverhead)
	}
}
