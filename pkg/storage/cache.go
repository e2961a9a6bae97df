// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"container/list"
	"sync"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

const (
	// DefaultCacheSize bounds the cache, see Dumps.LimitCache.
	DefaultCacheSize = 32 << 20
	// cacheOverhead is what an entry takes beyond its texts.
	cacheOverhead = 1 << 10
)

// recordCache keeps the records that were used last, by key and ETag. Records are immutable, so what it has is never stale; what
// was deleted is not asked for again. What it gives is shared. Safe for concurrent use.
type recordCache struct {
	mu      sync.Mutex
	entries map[cacheKey]*list.Element // of *cached
	order   *list.List                 // the last used first
	size    int64
	limit   int64
	fills   map[cacheKey]*pendingRead // what is being read

	reads chan struct{} // has an element for each record that is being read
}

type cacheKey struct{ key, etag string }

type cached struct {
	key  cacheKey
	rec  *v1alpha1.CoreDump // nobody changes it
	size int64
}

// pendingRead is a record that is being read. Rec and err are for after done.
type pendingRead struct {
	done chan struct{}
	rec  *v1alpha1.CoreDump
	err  error
}

func newRecordCache(limit int64) *recordCache {
	return &recordCache{entries: map[cacheKey]*list.Element{}, order: list.New(), limit: limit, fills: map[cacheKey]*pendingRead{}, reads: make(chan struct{}, recordReads)}
}

// get gives what there is, or nil.
func (c *recordCache) get(o Object) *v1alpha1.CoreDump {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used(cacheKey{o.Key, o.ETag})
}

// used gives the record and remembers that it was used. c is locked.
func (c *recordCache) used(key cacheKey) *v1alpha1.CoreDump {
	e := c.entries[key]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).rec
}

// getOrFill gives the record, or else who is reading it already, or else mine: the caller is to read it and to call filled.
func (c *recordCache) getOrFill(o Object) (rec *v1alpha1.CoreDump, other, mine *pendingRead) {
	key := cacheKey{o.Key, o.ETag}
	c.mu.Lock()
	defer c.mu.Unlock()
	if rec := c.used(key); rec != nil {
		return rec, nil, nil
	}
	if f := c.fills[key]; f != nil {
		return nil, f, nil
	}
	f := &pendingRead{done: make(chan struct{})}
	c.fills[key] = f
	return nil, nil, f
}

// filled tells those who wait.
func (c *recordCache) filled(o Object, f *pendingRead) {
	c.mu.Lock()
	delete(c.fills, cacheKey{o.Key, o.ETag})
	c.mu.Unlock()
	close(f.done)
}

// add keeps rec, whose JSON has n bytes. An object without an ETag cannot be told from its successor and is not kept.
func (c *recordCache) add(o Object, rec *v1alpha1.CoreDump, n int) {
	if o.ETag == "" {
		return
	}
	entry := &cached{cacheKey{o.Key, o.ETag}, rec, int64(n) + cacheOverhead}
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
