// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"reflect"
	"slices"
	"sync"
	"time"

	"example.io/coredump/pkg/cgroup"
)

const (
	// remembered bounds the deleted pods that are remembered, rememberedBytes what they take, and rememberedFor how long.
	remembered      = 2048
	rememberedBytes = 8 << 20
	rememberedFor   = 24 * time.Hour
)

// memory knows the pods of this node, those that live and those that were deleted lately: a pod is often gone
// by the time that its dump is found. Safe for concurrent use.
type memory struct {
	mu   sync.Mutex
	pods map[string][]*pod // by namespace/name
	uids map[string]*pod
	gone []gone // in the order of their deletion
	// weight is about how many bytes those take.
	weight int
	// changed is true where there is something that the file does not have.
	changed bool
}

type gone struct {
	name string
	pod  *pod
}

func newMemory() *memory { return &memory{pods: map[string][]*pod{}, uids: map[string]*pod{}} }

// put stores what is known of a pod now.
func (m *memory) put(name string, p *pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.pods[name]
	if i := slices.IndexFunc(list, func(q *pod) bool { return q.uid == p.uid }); i >= 0 {
		old := list[i]
		p.deleted, p.ns = old.deleted, old.ns
		if !p.deleted.IsZero() {
			return // an older message
		}
		if reflect.DeepEqual(old, p) {
			return
		}
		list[i] = p
	} else {
		m.pods[name] = append(list, p)
	}
	m.uids[p.uid] = p
	m.changed = true
}

// of gives a copy of the pod whose container the cgroup is, or nil. A UID is the API server's and belongs to one pod. A mirror only claims to be a static
// pod's: its status, or the runtime, must say so too.
func (m *memory) of(id cgroup.ID, t *told) *pod {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.uids[id.PodUID]; p != nil {
		return p.copy()
	}
	var found *pod
	for _, p := range m.uids {
		// The kubelet makes a mirror anew where somebody deleted it.
		if p.standsFor(id, t) && (found == nil || p.created.After(found.created)) {
			found = p
		}
	}
	if found == nil {
		return nil
	}
	return found.copy()
}

// byUID gives a copy of the pod, or nil.
func (m *memory) byUID(uid string) *pod {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.uids[uid]; p != nil {
		return p.copy()
	}
	return nil
}

func (p *pod) copy() *pod { c := *p; return &c }

// standsFor tells whether the pod is the mirror of the static pod whose container the cgroup is.
func (p *pod) standsFor(id cgroup.ID, t *told) bool {
	return p.mirrors != "" && p.mirrors == id.PodUID &&
		(p.containerOf(id.ContainerID) != "" || t != nil && t.namespace == p.namespace && t.pod == p.name)
}

// inNamespace notes what is known of the namespace of a pod.
func (m *memory) inNamespace(p *pod, ns *namespace) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if kept := m.uids[p.uid]; kept != nil {
		m.changed = m.changed || kept.ns == nil || kept.ns.uid != ns.uid
		kept.ns = ns
	}
}

// missed gives the pods that were read from the file and have not been seen since.
func (m *memory) missed() (list []*pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.uids {
		if p.unseen && p.deleted.IsZero() {
			list = append(list, p.copy())
		}
	}
	return list
}

// remove notes that the pod was deleted.
func (m *memory) remove(name, uid string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.pods[name] {
		if p.uid == uid && p.deleted.IsZero() {
			p.deleted = now
			m.gone = append(m.gone, gone{name, p})
			m.weight += p.weight()
			m.changed = true
		}
	}
	for len(m.gone) > 0 && (len(m.gone) > remembered || m.weight > rememberedBytes || now.Sub(m.gone[0].pod.deleted) > rememberedFor) {
		m.forget(m.gone[0])
		m.gone = m.gone[1:]
	}
}

func (m *memory) forget(g gone) {
	delete(m.uids, g.pod.uid)
	m.weight -= g.pod.weight()
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
