// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.io/coredump/pkg/storage"
)

// dump makes a complete dump from <namespace>/<pod>/<container>/<n>.
func dump(name string, age time.Duration, bytes int64, from *Origin) *Dump {
	parts := strings.Split(name, "/")
	d := &Dump{
		Key:     storage.Key{Namespace: parts[0], Pod: parts[1], Container: parts[2], ID: fmt.Sprintf("20261101t000000z-%010s", parts[3])},
		Crashed: now.Add(-age), Stored: now.Add(-age), Bytes: bytes, Origin: from, record: true,
	}
	d.bodies[1] = true
	return d
}

func short(p *Plan) (all []string) {
	for _, a := range p.Actions {
		k := a.Key()
		all = append(all, fmt.Sprintf("%s %s/%s/%s/%s", a.Rule, k.Namespace, k.Pod, k.Container, strings.TrimLeft(k.ID[17:], "0")))
	}
	return all
}

func TestPlan(t *testing.T) {
	old, cur := &Origin{NamespaceUID: "old", Cluster: "east"}, &Origin{NamespaceUID: "cur", Cluster: "east"}
	unknown, west := &Origin{Cluster: "east"}, &Origin{NamespaceUID: "old", Cluster: "west"}
	living := Namespaces{"a": {UID: "cur", Created: now.Add(-10 * day)}}
	gone := Policy{Cluster: "east", GoneGrace: 7 * day}
	body := dump("a/p/c/1", 2*day, 5, nil)
	body.record = false
	record := dump("a/p/c/2", 2*day, 5, nil)
	record.bodies = [len(codecs)]bool{}

	beside := dump("a/p/c/3", 2*day, 5, nil)
	beside.record, beside.bodies, beside.context = false, [len(codecs)]bool{}, true
	noBody := dump("a/p/c/4", 2*day, 5, nil)
	noBody.bodies, noBody.context = [len(codecs)]bool{}, true

	forged := dump("a/p/c/9", 2*day, 5, nil)
	forged.Crashed = now.Add(1000 * day)
	late := dump("a/p/c/1", 2*day, 5, nil)
	late.record = false
	late.Crashed, late.Stored = now.Add(-9*day), now.Add(-time.Hour)

	for _, tc := range []struct {
		name    string
		policy  Policy
		dumps   []*Dump
		uploads []storage.Upload
		unknown bool // which namespaces live
		want    []string
	}{
		{name: "age counts from the crash, and the limit itself is no excess",
			policy: Policy{Limits: Limits{MaxAge: 30 * day}},
			dumps:  []*Dump{dump("a/p/c/1", 30*day, 1, nil), dump("a/p/c/2", 30*day+1, 1, nil)},
			want:   []string{"max-age a/p/c/2"}},
		{name: "a dump from the future is young",
			policy: Policy{Limits: Limits{MaxAge: day}},
			dumps:  []*Dump{dump("a/p/c/1", -1000*day, 1, nil)}},
		{name: "a crash that says it is from the future is as old as its dump",
			policy: Policy{Limits: Limits{MaxAge: day}},
			dumps:  []*Dump{forged},
			want:   []string{"max-age a/p/c/9"}},
		{name: "a body of an old crash that is just being stored is no old leftover",
			policy: Policy{OrphanGrace: day},
			dumps:  []*Dump{late}},
		{name: "keep-last spares the newest of every container",
			policy: Policy{Limits: Limits{MaxAge: day, KeepLast: 1}},
			dumps:  []*Dump{dump("a/p/c/1", 3*day, 1, nil), dump("a/p/c/2", 2*day, 1, nil), dump("a/p/d/3", 9*day, 1, nil), dump("a/p-1/c/4", 9*day, 1, nil)},
			want:   []string{"max-age a/p/c/1"}},
		{name: "keep-last spares nothing from a budget",
			policy: Policy{Limits: Limits{MaxAge: day, KeepLast: 1, MaxBytes: 10}},
			dumps:  []*Dump{dump("a/p/c/1", 3*day, 6, nil), dump("a/p/d/2", 2*day, 6, nil)},
			want:   []string{"max-bytes-per-namespace a/p/c/1"}},
		{name: "a container keeps its newest",
			policy: Policy{Limits: Limits{MaxPerContainer: 2}},
			dumps:  []*Dump{dump("a/p/c/1", 1, 1, nil), dump("a/p/c/2", 3, 1, nil), dump("a/p/c/3", 2, 1, nil)},
			want:   []string{"max-per-container a/p/c/2"}},
		{name: "the budget of a namespace is its own, the neighbour by name has another",
			policy: Policy{Limits: Limits{MaxBytes: 10}},
			dumps:  []*Dump{dump("a/p/c/1", 2, 6, nil), dump("a-b/p/c/2", 1, 6, nil), dump("ab/p/c/3", 3, 6, nil), dump("a/p/c/4", 1, 5, nil)},
			want:   []string{"max-bytes-per-namespace a/p/c/1"}},
		{name: "a dump larger than the budget goes alone",
			policy: Policy{TotalBytes: 10},
			dumps:  []*Dump{dump("a/p/c/1", 9, 4, nil), dump("b/p/c/2", 1, 11, nil), dump("c/p/c/3", 5, 6, nil)},
			want:   []string{"max-bytes b/p/c/2"}},
		{name: "the oldest of all namespaces go for the budget of all",
			policy: Policy{TotalBytes: 10},
			dumps:  []*Dump{dump("a/p/c/1", 1, 6, nil), dump("b/p/c/2", 3, 6, nil), dump("c/p/c/3", 2, 4, nil)},
			want:   []string{"max-bytes b/p/c/2"}},
		{name: "what age takes no budget counts",
			policy: Policy{Limits: Limits{MaxAge: day, MaxBytes: 10}},
			dumps:  []*Dump{dump("a/p/c/1", 2*day, 9, nil), dump("a/p/c/2", 1, 9, nil)},
			want:   []string{"max-age a/p/c/1"}},
		{name: "limits of a namespace replace the others as a whole, upwards too",
			policy: Policy{Limits: Limits{MaxAge: day, MaxPerContainer: 1}, Namespaces: map[string]Limits{"a": {MaxAge: 3 * day}}},
			dumps:  []*Dump{dump("a/p/c/1", 2*day, 1, nil), dump("a/p/c/2", 1, 1, nil), dump("b/p/c/3", 2*day, 1, nil), dump("b/p/c/4", 1, 1, nil)},
			want:   []string{"max-age b/p/c/3"}},
		{name: "leftovers and unfinished uploads go after their graces",
			policy:  Policy{OrphanGrace: day, UploadGrace: day},
			dumps:   []*Dump{body, record},
			uploads: []storage.Upload{{Key: body.Body(""), ID: "x", Initiated: now.Add(-2 * day)}, {Key: body.Body(""), ID: "y", Initiated: now.Add(-day)}},
			want:    []string{"orphan a/p/c/1", "unfinished-upload a/p/c/1", "missing-body a/p/c/2"}},
		{name: "a context is a leftover like a body, and no body itself",
			policy: Policy{OrphanGrace: day},
			dumps:  []*Dump{beside, noBody},
			want:   []string{"orphan a/p/c/3", "missing-body a/p/c/4"}},
		{name: "what is nobody's has no namespace that could be gone",
			policy: gone,
			dumps:  []*Dump{dump("_unknown/node/unknown/1", 30*day, 1, unknown), dump("_unknown/node/unknown/2", 30*day, 1, old), dump("b/p/c/3", 30*day, 1, unknown)},
			want:   []string{"gone-namespace b/p/c/3"}},
		{name: "what is nobody's has age, number for each node, and limits of its own",
			policy: Policy{Limits: Limits{MaxAge: 9 * day}, Namespaces: map[string]Limits{"_unknown": {MaxAge: 3 * day, MaxPerContainer: 1, MaxBytes: 10}}},
			dumps: []*Dump{
				dump("_unknown/n1/unknown/1", 4*day, 1, nil), dump("_unknown/n1/unknown/2", 2*day, 1, nil), dump("_unknown/n1/unknown/3", day, 4, nil),
				dump("_unknown/n2/unknown/4", day+1, 9, nil), dump("b/p/c/5", 8*day, 90, nil),
			},
			want: []string{"max-age _unknown/n1/unknown/1", "max-per-container _unknown/n1/unknown/2", "max-bytes-per-namespace _unknown/n2/unknown/4"}},
		{name: "leftovers count for no other rule",
			policy: Policy{Limits: Limits{MaxAge: 1, MaxPerContainer: 1, MaxBytes: 1}, TotalBytes: 1},
			dumps:  []*Dump{body, record}},
		{name: "dumps of a namespace that is gone stay together until the newest is past the grace",
			policy: gone,
			dumps:  []*Dump{dump("b/p/c/1", 30*day, 1, old), dump("b/p/c/2", 6*day, 1, old), dump("c/p/c/3", 30*day, 1, old), dump("c/p/c/4", 8*day, 1, old)},
			want:   []string{"gone-namespace c/p/c/3", "gone-namespace c/p/c/4"}},
		{name: "dumps of an earlier namespace of the name go, those of the living and of an unknown one stay",
			policy: gone,
			dumps:  []*Dump{dump("a/p/c/1", 30*day, 1, old), dump("a/p/c/2", 30*day, 1, cur), dump("a/p/c/3", 30*day, 1, unknown), dump("a/p/c/4", 30*day, 1, nil)},
			want:   []string{"gone-namespace a/p/c/1"}},
		{name: "the grace of an earlier namespace counts from the beginning of the living one",
			policy: Policy{Cluster: "east", GoneGrace: 11 * day},
			dumps:  []*Dump{dump("a/p/c/1", 30*day, 1, old)}},
		{name: "dumps of other clusters stay",
			policy: gone,
			dumps:  []*Dump{dump("b/p/c/1", 30*day, 1, west), dump("a/p/c/2", 30*day, 1, west)}},
		{name: "if it is not known which namespaces live, none is gone",
			policy:  gone,
			unknown: true,
			dumps:   []*Dump{dump("b/p/c/1", 30*day, 1, old)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ns := living
			if tc.unknown {
				ns = nil
			}
			if got := short(tc.policy.Plan(&Inventory{Dumps: tc.dumps, Uploads: tc.uploads}, ns, now)); !slices.Equal(got, tc.want) {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

func TestEveryRuleHasAReason(t *testing.T) {
	for _, rule := range Rules() {
		if reason := (Policy{}).Reason(rule, "a"); reason == string(rule) {
			t.Errorf("rule %s has no reason", rule)
		}
	}
}
