// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"slices"
	"sync"
	"time"
)

const (
	// remembered bounds the deleted pods that are remembered, and rememberedFor how long.
	remembered    = 2048
	rememberedFor = 24 * time.Hour
)

// memory knows the pods of this node, those that live and those that were deleted lately: a pod is often gone
// by the time that its dump is found. Safe for concurrent use.
type memory struct {
	mu   sync.Mutex
	pods map[string][]*pod // by namespace/name
	gone []gone            // in the order of their deletion
}

type gone struct {
	name string
	pod  *pod
}

func newMemory() *memory { return &memory{pods: map[string][]*pod{}} }

// put stores what is known of a pod now.
func (m *memory) put(name string, p *pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.pods[name]
	if i := slices.IndexFunc(list, func(q *pod) bool { return q.uid == p.uid }); i >= 0 {
		p.deleted = list[i].deleted
		if !p.deleted.IsZero() {
			return // an older message
		}
		list[i] = p
		return
	}
	m.pods[name] = append(list, p)
}

// remove notes that the pod was deleted.
func (m *memory) remove(name, uid string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.pods[name] {
		if p.uid == uid && p.deleted.IsZero() {
			p.deleted = now
			m.gone = append(m.gone, gone{name, p})
		}
	}
	for len(m.gone) > 0 && (len(m.gone) > remembered || now.Sub(m.gone[0].pod.deleted) > rememberedFor) {
		m.forget(m.gone[0])
		m.gone = m.gone[1:]
	}
}

func (m *memory) forget(g gone) {
	list := slices.DeleteFunc(m.pods[g.name], func(p *pod) bool { return p == g.pod })
	if len(list) == 0 {
		delete(m.pods, g.name)
		return
	}
	m.pods[g.name] = list
}

// at gives the pod that had the name at the time, or nil: the newest that existed by then. Creation times are
// whole seconds; of two that are equal, the pod that was seen later is the newer one.
func (m *memory) at(name string, t time.Time) (p *pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, q := range m.pods[name] {
		if !q.created.After(t) && (p == nil || !q.created.Before(p.created)) {
			p = q
		}
	}
	return p
}
