// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package judge

import "container/list"

// recent maps keys to values, and forgets those that were used the longest time ago. Unlike k8s.io/utils/lru it can be gone through, in
// order, which is needed to write it down.
type recent[K comparable, V any] struct {
	most  int
	order *list.List // of *pair, the last used first
	byKey map[K]*list.Element
}

type pair[K comparable, V any] struct {
	key   K
	value V
}

func newRecent[K comparable, V any](most int) *recent[K, V] {
	return &recent[K, V]{most, list.New(), map[K]*list.Element{}}
}

// get gives the value of the key, a zero value where it is new.
func (r *recent[K, V]) get(k K) *V {
	e, known := r.byKey[k]
	if known {
		r.order.MoveToFront(e)
	} else {
		if r.order.Len() >= r.most {
			oldest := r.order.Remove(r.order.Back()).(*pair[K, V])
			delete(r.byKey, oldest.key)
		}
		e = r.order.PushFront(&pair[K, V]{key: k})
		r.byKey[k] = e
	}
	return &e.Value.(*pair[K, V]).value
}

// peek gives the value of the key, or nil, and does not count as use.
func (r *recent[K, V]) peek(k K) *V {
	if e, known := r.byKey[k]; known {
		return &e.Value.(*pair[K, V]).value
	}
	return nil
}

// all goes through the pairs, the last used first.
func (r *recent[K, V]) all(yield func(K, *V) bool) {
	for e := r.order.Front(); e != nil; e = e.Next() {
		p := e.Value.(*pair[K, V])
		if !yield(p.key, &p.value) {
			return
		}
	}
}
