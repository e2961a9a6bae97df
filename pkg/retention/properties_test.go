// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"example.io/coredump/pkg/storage"
)

var now = time.Date(2026, 11, 21, 4, 0, 0, 0, time.UTC)

const (
	day  = 24 * time.Hour
	seed = 200 // how many random inventories every property is tried on
)

// random makes an inventory and the namespaces that live, with all that there can be: neighbours by name, leftovers, ties in time,
// dumps from the future, namespaces that are gone or made again, other clusters, dumps whose origin is not known.
func random(r *rand.Rand) (*Inventory, Namespaces) {
	living := Namespaces{}
	for _, ns := range []string{"a", "a-b", "ab"} {
		if r.IntN(3) > 0 {
			living[ns] = Namespace{UID: "uid-1", Created: now.Add(-time.Duration(r.IntN(40)) * day)}
		}
	}
	origins := []*Origin{nil, {NamespaceUID: "uid-1"}, {NamespaceUID: "uid-2"}, {}, {NamespaceUID: "uid-2", Cluster: "other"}}
	inv := &Inventory{}
	for i := range r.IntN(40) {
		d := &Dump{
			Key: storage.Key{
				Namespace: pick(r, "a", "a-b", "ab"), Pod: pick(r, "p", "p.1", "p-1"), Container: pick(r, "c", "c-1"),
				ID: fmt.Sprintf("20261101t000000z-%010x", i),
			},
			Stored: now.Add(-time.Duration(r.IntN(40)-2) * day),
			Bytes:  int64(r.IntN(100)),
			Origin: pick(r, origins...),
		}
		d.Crashed = d.Stored.Add(-time.Duration(r.IntN(10)-2) * day) // a tenant may say that it is from the future
		d.record, d.bodies[r.IntN(len(codecs))] = r.IntN(5) > 0, r.IntN(5) > 0
		d.context = r.IntN(2) > 0
		if r.IntN(5) == 0 {
			d.Namespace, d.Container = storage.UnknownNamespace, storage.UnknownContainer
		}
		if d.record || d.hasBody() || d.context {
			inv.Dumps = append(inv.Dumps, d)
		}
		if r.IntN(10) == 0 {
			inv.Uploads = append(inv.Uploads, storage.Upload{Key: d.Body(storage.CodecZstd), ID: fmt.Sprint(i), Initiated: d.Stored})
		}
	}
	return inv, living
}

func randomPolicy(r *rand.Rand) Policy {
	limits := func() Limits {
		return Limits{MaxAge: days(r), KeepLast: r.IntN(3), MaxPerContainer: r.IntN(4), MaxBytes: int64(r.IntN(4) * 90)}
	}
	return Policy{
		Limits: limits(), Namespaces: map[string]Limits{"ab": limits()}, TotalBytes: int64(r.IntN(4) * 150),
		OrphanGrace: days(r), UploadGrace: days(r), GoneGrace: days(r),
	}
}

// days gives a number of days, or none.
func days(r *rand.Rand) time.Duration { return time.Duration(r.IntN(4)*10) * day }

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// each runs the property on many random cases; the name of the subtest that fails is its seed.
func each(t *testing.T, property func(t *testing.T, r *rand.Rand, inv *Inventory, living Namespaces, p Policy)) {
	for i := range uint64(seed) {
		r := rand.New(rand.NewPCG(i, 0))
		inv, living := random(r)
		p := randomPolicy(r)
		if ok := t.Run(fmt.Sprint("seed ", i), func(t *testing.T) { property(t, r, inv, living, p) }); !ok {
			return
		}
	}
}

// after is the inventory when the plan has been carried out.
func after(inv *Inventory, p *Plan) *Inventory {
	gone := map[string]bool{}
	for _, a := range p.Actions {
		gone[id(a)] = true
	}
	rest := &Inventory{}
	for i := range inv.Dumps {
		if !gone[id(Action{Dump: inv.Dumps[i]})] {
			rest.Dumps = append(rest.Dumps, inv.Dumps[i])
		}
	}
	for i := range inv.Uploads {
		if !gone[id(Action{Upload: &inv.Uploads[i]})] {
			rest.Uploads = append(rest.Uploads, inv.Uploads[i])
		}
	}
	return rest
}

func id(a Action) string {
	if a.Upload != nil {
		return "upload " + a.Upload.Key + " " + a.Upload.ID
	}
	return "dump " + a.Dump.Record()
}

func ids(p *Plan) (all []string) {
	for _, a := range p.Actions {
		all = append(all, string(a.Rule)+" "+id(a))
	}
	return all
}

func TestAPlanHasWhatIsThereOnceAndCountsTheRest(t *testing.T) {
	each(t, func(t *testing.T, _ *rand.Rand, inv *Inventory, living Namespaces, p Policy) {
		plan := p.Plan(inv, living, now)
		rest := after(inv, plan)
		if got, want := len(plan.Actions), len(inv.Dumps)+len(inv.Uploads)-len(rest.Dumps)-len(rest.Uploads); got != want {
			t.Errorf("%d actions take %d things", got, want)
		}
		if got := plan.Kept.N + plan.Incomplete.N; got != len(rest.Dumps) {
			t.Errorf("plan says that %d dumps and leftovers stay, it is %d", got, len(rest.Dumps))
		}
		var bytes int64
		for _, d := range rest.Dumps {
			bytes += d.Bytes
		}
		if got := plan.Kept.Bytes + plan.Incomplete.Bytes; got != bytes {
			t.Errorf("plan says that %d bytes stay, it is %d", got, bytes)
		}
	})
}

func TestPlanningOnTheResultGivesNothing(t *testing.T) {
	each(t, func(t *testing.T, _ *rand.Rand, inv *Inventory, living Namespaces, p Policy) {
		if again := p.Plan(after(inv, p.Plan(inv, living, now)), living, now); len(again.Actions) != 0 {
			t.Errorf("second plan: %q", ids(again))
		}
	})
}

func TestTheOrderOfTheInventoryDoesNotMatter(t *testing.T) {
	each(t, func(t *testing.T, r *rand.Rand, inv *Inventory, living Namespaces, p Policy) {
		want := ids(p.Plan(inv, living, now))
		r.Shuffle(len(inv.Dumps), func(i, j int) { inv.Dumps[i], inv.Dumps[j] = inv.Dumps[j], inv.Dumps[i] })
		r.Shuffle(len(inv.Uploads), func(i, j int) { inv.Uploads[i], inv.Uploads[j] = inv.Uploads[j], inv.Uploads[i] })
		if got := ids(p.Plan(inv, living, now)); !slices.Equal(got, want) {
			t.Errorf("got\n%q\nwant\n%q", got, want)
		}
	})
}

func TestNothingWithinItsGraceIsTaken(t *testing.T) {
	each(t, func(t *testing.T, _ *rand.Rand, inv *Inventory, living Namespaces, p Policy) {
		for _, a := range p.Plan(inv, living, now).Actions {
			least := map[Rule]time.Duration{
				RuleOrphan: p.OrphanGrace, RuleMissingBody: p.OrphanGrace, RuleUnfinished: p.UploadGrace,
				RuleGoneNamespace: p.GoneGrace, RuleMaxAge: p.limits(a.Key().Namespace).MaxAge,
			}[a.Rule]
			if age := now.Sub(a.At()); least > 0 && age <= least {
				t.Errorf("%s of age %v goes by %s, which leaves %v", id(a), age, a.Rule, least)
			}
		}
	})
}

func TestKeepLastSparesTheNewestFromAge(t *testing.T) {
	each(t, func(t *testing.T, _ *rand.Rand, inv *Inventory, living Namespaces, p Policy) {
		oversized := func(d *Dump) bool {
			l := p.limits(d.Namespace).MaxBytes
			return l > 0 && d.Bytes > l || p.TotalBytes > 0 && d.Bytes > p.TotalBytes
		}
		for _, a := range p.Plan(inv, living, now).Actions {
			if a.Rule != RuleMaxAge {
				continue
			}
			newer := 0
			for i := range inv.Dumps {
				d := inv.Dumps[i]
				if d.Complete() && compareContainer(d.Key, a.Dump.Key) == 0 && newestFirst(d, a.Dump) < 0 && !oversized(d) {
					newer++
				}
			}
			if keep := p.limits(a.Dump.Namespace).KeepLast; newer < keep {
				t.Errorf("%s goes by age, with %d newer ones and keep-last %d", id(a), newer, keep)
			}
		}
	})
}

func TestABudgetIsKeptAndNoMoreIsTakenThanItNeeds(t *testing.T) {
	each(t, func(t *testing.T, _ *rand.Rand, inv *Inventory, living Namespaces, p Policy) {
		plan := p.Plan(inv, living, now)
		rest := after(inv, plan)
		checkBudget(t, "all", rest, plan, p.TotalBytes, RuleBytes, func(*Dump) bool { return true })
		for i := range plan.Actions { // what the last rule took fitted into its namespace
			if a := &plan.Actions[i]; a.Rule == RuleBytes {
				rest.Dumps = append(rest.Dumps, a.Dump)
			}
		}
		for _, ns := range []string{"a", "a-b", "ab"} {
			checkBudget(t, ns, rest, plan, p.limits(ns).MaxBytes, RuleNamespaceBytes, func(d *Dump) bool { return d.Namespace == ns })
		}
	})
}

func checkBudget(t *testing.T, of string, rest *Inventory, plan *Plan, limit int64, rule Rule, in func(*Dump) bool) {
	t.Helper()
	var total int64
	for i := range rest.Dumps {
		if d := rest.Dumps[i]; in(d) && d.Complete() {
			total += d.Bytes
		}
	}
	if limit > 0 && total > limit {
		t.Errorf("%s: %d bytes stay, the limit is %d", of, total, limit)
	}
	var newest *Dump
	for _, a := range plan.Actions {
		if a.Rule == rule && in(a.Dump) && a.Dump.Bytes <= limit && (newest == nil || newestFirst(a.Dump, newest) < 0) {
			newest = a.Dump
		}
	}
	if newest != nil && total+newest.Bytes <= limit {
		t.Errorf("%s: %d bytes stay, %s of %d went too, the limit is %d", of, total, newest.Record(), newest.Bytes, limit)
	}
}

func TestWhatARuleTakesItTakesLaterToo(t *testing.T) {
	alone := map[Rule]func(Policy) Policy{
		RuleOrphan:          func(p Policy) Policy { return Policy{OrphanGrace: p.OrphanGrace} },
		RuleUnfinished:      func(p Policy) Policy { return Policy{UploadGrace: p.UploadGrace} },
		RuleGoneNamespace:   func(p Policy) Policy { return Policy{GoneGrace: p.GoneGrace} },
		RuleMaxAge:          func(p Policy) Policy { return Policy{Limits: Limits{MaxAge: p.MaxAge, KeepLast: p.KeepLast}} },
		RuleMaxPerContainer: func(p Policy) Policy { return Policy{Limits: Limits{MaxPerContainer: p.MaxPerContainer}} },
		RuleNamespaceBytes:  func(p Policy) Policy { return Policy{Limits: Limits{MaxBytes: p.MaxBytes}} },
		RuleBytes:           func(p Policy) Policy { return Policy{TotalBytes: p.TotalBytes} },
	}
	for rule, policy := range alone {
		t.Run(string(rule), func(t *testing.T) {
			each(t, func(t *testing.T, r *rand.Rand, inv *Inventory, living Namespaces, p Policy) {
				p = policy(p)
				later := ids(p.Plan(inv, living, now.Add(time.Duration(r.IntN(20))*day)))
				for _, a := range ids(p.Plan(inv, living, now)) {
					if !slices.Contains(later, a) {
						t.Errorf("%s: taken now and not later", a)
					}
				}
			})
		})
	}
}

func TestWithoutRulesNothingGoes(t *testing.T) {
	each(t, func(t *testing.T, _ *rand.Rand, inv *Inventory, living Namespaces, _ Policy) {
		if plan := (Policy{}).Plan(inv, living, now); len(plan.Actions) != 0 {
			t.Errorf("plan: %q", ids(plan))
		}
	})
}
