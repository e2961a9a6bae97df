// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"example.io/coredump/pkg/storage"
)

// Namespaces are the namespaces that live, by name.
type Namespaces map[string]Namespace

// Namespace is a living namespace.
type Namespace struct {
	UID     string
	Created time.Time
}

// Action is the removal of one thing: a dump, what is left of one, or an unfinished upload.
type Action struct {
	Rule Rule
	// Dump is nil where Upload is not.
	Dump   *Dump
	Upload *storage.Upload
}

// Key is the dump that the action is about.
func (a Action) Key() storage.Key {
	if a.Dump != nil {
		return a.Dump.Key
	}
	e, _ := storage.ParseKey(a.Upload.Key)
	return e.Key
}

// Bytes is what the removal frees; 0 for an unfinished upload, whose size a store does not tell.
func (a Action) Bytes() int64 {
	if a.Dump != nil {
		return a.Dump.Bytes
	}
	return 0
}

// At is the time by which the rule goes.
func (a Action) At() time.Time {
	if a.Dump != nil {
		return a.Dump.At()
	}
	return a.Upload.Initiated
}

// Plan is what shall be removed.
type Plan struct {
	Policy Policy
	Now    time.Time
	// Actions are ordered by namespace, pod, container, id.
	Actions []Action
	// Kept are the dumps that stay.
	Kept Count
	// Incomplete are the dumps without a body or a record that stay, because they are younger than the grace or the rule is off.
	Incomplete Count
}

// Removed counts the actions by rule.
func (p *Plan) Removed() map[Rule]Count {
	removed := map[Rule]Count{}
	for _, a := range p.Actions {
		add(removed, a)
	}
	return removed
}

// Plan applies the policy. A nil living means that it is not known which namespaces live; the rule about them does nothing then.
// The order within the inventory does not matter, and planning again after the plan has been carried out gives an
// empty plan. Byte budgets count complete dumps alone.
func (p Policy) Plan(inv *Inventory, living Namespaces, now time.Time) *Plan {
	pl := &planner{Policy: p, living: living, plan: &Plan{Policy: p, Now: now}}
	var complete, parts []*Dump
	for _, d := range inv.Dumps {
		if d.Complete() {
			complete = append(complete, d)
		} else {
			parts = append(parts, d)
		}
	}
	pl.leftovers(parts, inv.Uploads)
	pl.dumps(complete)
	slices.SortFunc(pl.plan.Actions, byKey)
	return pl.plan
}

func byKey(a, b Action) int {
	if c := cmp.Or(compareContainer(a.Key(), b.Key()), strings.Compare(a.Key().ID, b.Key().ID)); c != 0 {
		return c
	}
	if a.Upload == nil || b.Upload == nil { // what is stored before what is being uploaded
		return cmp.Compare(btoi(a.Upload != nil), btoi(b.Upload != nil))
	}
	return cmp.Or(strings.Compare(a.Upload.Key, b.Upload.Key), strings.Compare(a.Upload.ID, b.Upload.ID))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func compareContainer(a, b storage.Key) int {
	return cmp.Or(
		strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Pod, b.Pod),
		strings.Compare(a.Container, b.Container),
	)
}
