// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"container/list"
	"sync"
)

// lru keeps the values that were used last, as many as fit into limit bytes. Whoever adds one says how many it takes. Safe for
// concurrent use; the values are shared, so nobody may change them.
type lru[K comparable, V any] struct {
	mu      sync.Mutex
	entries map[K]*list.Element // of *lruEntry[K, V]
	order   *list.List          // the last used first
	size    int64
	limit   int64
}

type lruEntry[K comparable, V any] struct {
	key   K
	value V
	size  int64
}

func newLRU[K comparable, V any](limit int64) *lru[K, V] {
	return &lru[K, V]{entries: map[K]*list.Element{}, order: list.New(), limit: limit}
}

func (c *lru[K, V]) get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil {
		return value, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*lruEntry[K, V]).value, true
}

// add keeps the value in place of any other of the key. One that is larger than all that may be kept is not.
func (c *lru[K, V]) add(key K, value V, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(key)
	c.entries[key] = c.order.PushFront(&lruEntry[K, V]{key, value, size})
	for c.size += size; c.size > c.limit; {
		c.drop(c.order.Back().Value.(*lruEntry[K, V]).key)
	}
}

func (c *lru[K, V]) remove(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(key)
}

func (c *lru[K, V]) drop(key K) {
	if e := c.entries[key]; e != nil {
		c.size -= c.order.Remove(e).(*lruEntry[K, V]).size
		delete(c.entries, key)
	}
}
