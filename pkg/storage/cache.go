// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"sync"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

const (
	// defaultCacheSize bounds the cache, see Dumps.LimitCache.
	defaultCacheSize = 32 << 20
	// cacheOverhead is what an entry takes beyond its texts.
	cacheOverhead = 1 << 10
)

// recordCache keeps the records that were used last, by key and ETag. Records are immutable, so what it has is never stale; what
// was deleted is not asked for again. What it gives is shared. Safe for concurrent use.
type recordCache struct {
	*lru[cacheKey, *v1alpha1.CoreDump]

	filling sync.Mutex
	fills   map[cacheKey]*pendingRead // what is being read
	reads   chan struct{}             // has an element for each record that is being read
}

type cacheKey struct{ key, etag string }

// pendingRead is a record that is being read. Rec and err are for after done.
type pendingRead struct {
	done chan struct{}
	rec  *v1alpha1.CoreDump
	err  error
}

func newRecordCache(limit int64) *recordCache {
	return &recordCache{lru: newLRU[cacheKey, *v1alpha1.CoreDump](limit), fills: map[cacheKey]*pendingRead{}, reads: make(chan struct{}, recordReads)}
}

// get gives what there is, or nil.
func (c *recordCache) get(o Object) *v1alpha1.CoreDump {
	rec, _ := c.lru.get(cacheKey{o.Key, o.ETag})
	return rec
}

// getOrFill gives the record, or else who is reading it already, or else mine: the caller is to read it, to add it, and then to call filled.
func (c *recordCache) getOrFill(o Object) (rec *v1alpha1.CoreDump, other, mine *pendingRead) {
	key := cacheKey{o.Key, o.ETag}
	c.filling.Lock()
	defer c.filling.Unlock()
	if rec := c.get(o); rec != nil {
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
	c.filling.Lock()
	delete(c.fills, cacheKey{o.Key, o.ETag})
	c.filling.Unlock()
	close(f.done)
}

// add keeps rec, whose JSON has n bytes. An object without an ETag cannot be told from its successor and is not kept.
func (c *recordCache) add(o Object, rec *v1alpha1.CoreDump, n int) {
	if o.ETag != "" {
		c.lru.add(cacheKey{o.Key, o.ETag}, rec, int64(n)+cacheOverhead)
	}
}
