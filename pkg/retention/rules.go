// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"time"

	"example.io/coredump/pkg/storage"
)

// planner applies the rules one after the other. Every rule takes the dumps that are left, gives back those that it keeps, and notes
// the others in the plan.
type planner struct {
	Policy
	living Namespaces
	plan   *Plan
}

func (p *planner) age(t time.Time) time.Duration { return p.plan.Now.Sub(t) }

// drop notes the dumps that which picks and gives back the others. It uses the memory of dumps.
func (p *planner) drop(rule Rule, dumps []*Dump, which func(*Dump) bool) (kept []*Dump) {
	return slices.DeleteFunc(dumps, func(d *Dump) bool {
		if !which(d) {
			return false
		}
		p.plan.Actions = append(p.plan.Actions, Action{Rule: rule, Dump: d})
		return true
	})
}

// leftovers are bodies and contexts without a record, records without a body and unfinished uploads.
//
// The protocol never makes a record without a body; somebody removed the body, a lifecycle rule or a person. The
// API lists a dump whose download always fails, so the record goes too; the grace leaves time to put the body back.
func (p *planner) leftovers(parts []*Dump, uploads []storage.Upload) {
	if p.OrphanGrace > 0 {
		old := func(d *Dump) bool { return p.age(d.At()) > p.OrphanGrace }
		parts = p.drop(RuleOrphan, parts, func(d *Dump) bool { return !d.record && old(d) })
		parts = p.drop(RuleMissingBody, parts, func(d *Dump) bool { return d.record && old(d) })
	}
	for _, d := range parts {
		p.plan.Incomplete.add(d.Bytes)
	}
	for i := range uploads {
		if u := &uploads[i]; p.UploadGrace > 0 && p.age(u.Initiated) > p.UploadGrace {
			p.plan.Actions = append(p.plan.Actions, Action{Rule: RuleUnfinished, Upload: u})
		}
	}
}

func (p *planner) dumps(dumps []*Dump) {
	slices.SortFunc(dumps, func(a, b *Dump) int {
		return cmp.Or(compareContainer(a.Key, b.Key), newestFirst(a, b))
	})
	kept := dumps[:0]
	for ns := range runs(dumps, func(a, b *Dump) bool { return a.Namespace == b.Namespace }) {
		limits := p.limits(ns[0].Namespace)
		ns = p.oversized(RuleNamespaceBytes, ns, limits.MaxBytes)
		ns = p.oversized(RuleBytes, ns, p.TotalBytes)
		ns = p.perContainer(ns, limits)
		ns = p.gone(ns)
		ns = p.budget(RuleNamespaceBytes, ns, limits.MaxBytes)
		kept = append(kept, ns...)
	}
	for _, d := range p.budget(RuleBytes, kept, p.TotalBytes) {
		p.plan.Kept.add(d.Bytes)
	}
}

// newestFirst orders dumps of one container, and with oldest and newest exchanged those of a budget. What is of
// the same time is ordered by its key, so that a plan does not depend on anything else.
func newestFirst(a, b *Dump) int {
	return cmp.Or(b.At().Compare(a.At()), strings.Compare(b.ID, a.ID), compareContainer(b.Key, a.Key))
}

// gone drops the dumps, all of one namespace, whose namespace is no more: there is none of this name, or another one, with another UID.
// When it went nobody has written down. The grace counts from the last sign of it, so never from too early: from its newest
// dump that is left or, where the name is used again, from when that namespace was made. A dump of which it is not
// known where it came from stays, as one of another cluster does. So do those of which it is not known whose they are: they never had
// a namespace that could be gone.
func (p *planner) gone(dumps []*Dump) []*Dump {
	if p.GoneGrace <= 0 || p.living == nil || len(dumps) == 0 || dumps[0].Unknown() {
		return dumps
	}
	living, lives := p.living[dumps[0].Namespace]
	dead := func(d *Dump) bool {
		return d.Origin != nil && d.Origin.Cluster == p.Cluster &&
			(!lives || d.Origin.NamespaceUID != "" && d.Origin.NamespaceUID != living.UID)
	}
	lastSign := map[Origin]time.Time{}
	for _, d := range dumps {
		if dead(d) {
			lastSign[*d.Origin] = latest(lastSign[*d.Origin], d.At(), living.Created)
		}
	}
	return p.drop(RuleGoneNamespace, dumps, func(d *Dump) bool {
		return dead(d) && p.age(lastSign[*d.Origin]) > p.GoneGrace
	})
}

func latest(first time.Time, others ...time.Time) time.Time {
	for _, t := range others {
		if t.After(first) {
			first = t
		}
	}
	return first
}

// perContainer applies age and number. The dumps are ordered by container, the newest first.
func (p *planner) perContainer(dumps []*Dump, l Limits) []*Dump {
	kept := dumps[:0]
	for c := range runs(dumps, func(a, b *Dump) bool { return compareContainer(a.Key, b.Key) == 0 }) {
		if l.MaxAge > 0 {
			spared := min(l.KeepLast, len(c))
			old := p.drop(RuleMaxAge, c[spared:], func(d *Dump) bool { return p.age(d.At()) > l.MaxAge })
			c = c[:spared+len(old)]
		}
		if l.MaxPerContainer > 0 && len(c) > l.MaxPerContainer {
			p.drop(RuleMaxPerContainer, c[l.MaxPerContainer:], func(*Dump) bool { return true })
			c = c[:l.MaxPerContainer]
		}
		kept = append(kept, c...)
	}
	return kept
}

// oversized drops the dumps that are larger than a whole budget. No set of dumps that such a one belongs to fits, and if the
// oldest went first, it would take all others with it.
func (p *planner) oversized(rule Rule, dumps []*Dump, limit int64) []*Dump {
	return p.drop(rule, dumps, func(d *Dump) bool { return limit > 0 && d.Bytes > limit })
}

// budget drops the oldest dumps until the rest fits into limit bytes.
func (p *planner) budget(rule Rule, dumps []*Dump, limit int64) []*Dump {
	var total int64
	for _, d := range dumps {
		total += d.Bytes
	}
	if limit <= 0 || total <= limit {
		return dumps
	}
	slices.SortFunc(dumps, func(a, b *Dump) int { return newestFirst(b, a) })
	return p.drop(rule, dumps, func(d *Dump) bool {
		if total <= limit {
			return false
		}
		total -= d.Bytes
		return true
	})
}

// runs yields the longest runs of neighbours that are the same. They share the memory of dumps, end to end.
func runs(dumps []*Dump, same func(a, b *Dump) bool) iter.Seq[[]*Dump] {
	return func(yield func([]*Dump) bool) {
		for start := 0; start < len(dumps); {
			end := start + 1
			for end < len(dumps) && same(dumps[start], dumps[end]) {
				end++
			}
			if !yield(dumps[start:end:end]) {
				return
			}
			start = end
		}
	}
}
