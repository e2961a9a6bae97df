// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"container/list"
	"sync"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

const (
	// cacheSize bounds the cache: the sum of the sizes of the JSON of what is in it, in bytes, with cacheOverhead for each.
	cacheSize = 32 << 20
	// cacheOverhead is what an entry takes beyond its texts.
	cacheOverhead = 1 << 10
)

// recordCache keeps the records that were used last, by key and ETag. Records are immutable, so what it has is never stale; what
// was deleted is not asked for again. Safe for concurrent use.
type recordCache struct {
	mu      sync.Mutex
	entries map[cacheKey]*list.Element // of *cached
	order   *list.List                 // the last used first
	size    int64
	limit   int64
}

type cacheKey struct{ key, etag string }

type cached struct {
	key  cacheKey
	rec  *v1alpha1.CoreDump // nobody changes it
	size int64
}

func newRecordCache(limit int64) *recordCache {
	return &recordCache{entries: map[cacheKey]*list.Element{}, order: list.New(), limit: limit}
}

// get returns a copy, or nil.
func (c *recordCache) get(o Object) *v1alpha1.CoreDump {
	c.mu.Lock()
	e := c.entries[cacheKey{o.Key, o.ETag}]
	if e == nil {
		c.mu.Unlock()
		return nil
	}
	c.order.MoveToFront(e)
	rec := e.Value.(*cached).rec
	c.mu.Unlock()
	return rec.DeepCopy()
}

// add keeps a copy of rec, whose JSON has n bytes. An object without an ETag cannot be told from its successor and is not kept.
func (c *recordCache) add(o Object, rec *v1alpha1.CoreDump, n int) {
	if o.ETag == "" {
		return
	}
	entry := &cached{cacheKey{o.Key, o.ETag}, rec.DeepCopy(), int64(n) + cacheOverhead}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[entry.key]; e != nil {
		c.remove(e)
	}
	c.entries[entry.key] = c.order.PushFront(entry)
	for c.size += entry.size; c.size > c.limit; {
		c.remove(c.order.Back())
	}
}

func (c *recordCache) remove(e *list.Element) {
	entry := c.order.Remove(e).(*cached)
	delete(c.entries, entry.key)
	c.size -= entry.size
}
