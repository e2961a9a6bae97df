// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"context"
	"errors"

	"k8s.io/klog/v2"

	"example.io/coredump/pkg/storage"
)

// batch is how many dumps are removed with one request for the records and one or two for what is beside them. It is also how many
// dumps there are at most of which something is left without a record if the process is killed.
const batch = 500

// Result is what became of a plan.
type Result struct {
	// Removed and Failed count the actions that were carried out and those that were not.
	Removed, Failed map[Rule]Count
	// Spared counts leftovers that were no longer what they had been when the bucket was listed.
	Spared int
}

// CarryOut removes what the plan says, in the protocol's order: records before bodies and contexts. Stopped at any point, by ctx or by the
// end of the process, it leaves nothing but bodies and contexts without a record, which a later plan finds.
//
// What the store refuses to remove is logged and counted, and the rest goes on. The error tells why it stopped early: the
// end of ctx or a store that is away.
func (p *Plan) CarryOut(ctx context.Context, dumps *storage.Dumps) (Result, error) {
	r := &runner{dumps: dumps, policy: p.Policy, result: Result{Removed: map[Rule]Count{}, Failed: map[Rule]Count{}}}
	var pending []Action
	for _, a := range p.Actions {
		var err error
		switch a.Rule {
		case RuleOrphan, RuleMissingBody:
			err = r.removeLeftover(ctx, a)
		case RuleUnfinished:
			err = r.abort(ctx, a)
		default:
			if pending = append(pending, a); len(pending) == batch {
				err = r.remove(ctx, pending)
				pending = pending[:0]
			}
		}
		if err != nil {
			return r.result, err
		}
	}
	return r.result, r.remove(ctx, pending)
}

type runner struct {
	dumps  *storage.Dumps
	policy Policy
	result Result
}

// remove removes the dumps of the actions.
func (r *runner) remove(ctx context.Context, actions []Action) error {
	if err := ctx.Err(); err != nil || len(actions) == 0 {
		return err
	}
	var entries []storage.Entry
	for _, a := range actions {
		entries = append(entries, a.Dump.Entries()...)
	}
	left, err := r.dumps.Delete(ctx, entries...)
	failed := map[storage.Key]bool{}
	for _, e := range left {
		failed[e.Key] = true
	}
	for _, a := range actions {
		if failed[a.Dump.Key] {
			add(r.result.Failed, a)
		} else {
			r.removed(ctx, a)
		}
	}
	return r.failure(ctx, err, len(failed))
}

// removeLeftover removes what is left of a dump if it still is what it was when the bucket was listed. Since then its record may
// have been written, or the bucket may have been listed while it was.
func (r *runner) removeLeftover(ctx context.Context, a Action) error {
	now, err := r.look(ctx, a.Dump.Key)
	if err != nil {
		add(r.result.Failed, a)
		return r.failure(ctx, err, 1)
	}
	if now == nil || !now.same(a.Dump) {
		r.result.Spared++
		klog.FromContext(ctx).V(2).Info("[coredump] Changed meanwhile, left alone", "key", a.Dump.Dir()+a.Dump.ID, "rule", a.Rule)
		return nil
	}
	return r.remove(ctx, []Action{a})
}

// look lists one dump anew. It gives nil where an object under the key is of no kind that this version knows: it may belong to
// the dump.
func (r *runner) look(ctx context.Context, k storage.Key) (*Dump, error) {
	d := &Dump{Key: k}
	for obj, err := range r.dumps.Bucket().List(ctx, k.Dir()+k.ID+".", "") {
		if err != nil {
			return nil, err
		}
		e, ok := storage.ParseKey(obj.Key)
		if !ok {
			return nil, nil
		}
		d.add(e, obj)
	}
	return d, nil
}

func (d *Dump) same(other *Dump) bool {
	return d.record == other.record && d.context == other.context && d.bodies == other.bodies && d.Bytes == other.Bytes && d.Stored.Equal(other.Stored)
}

func (r *runner) abort(ctx context.Context, a Action) error {
	if err := r.dumps.Bucket().AbortUpload(ctx, *a.Upload); err != nil {
		add(r.result.Failed, a)
		return r.failure(ctx, err, 1)
	}
	r.removed(ctx, a)
	return nil
}

func (r *runner) removed(ctx context.Context, a Action) {
	add(r.result.Removed, a)
	k := a.Key()
	klog.FromContext(ctx).V(2).Info("[coredump] Removed", "key", k.Dir()+k.ID, "bytes", a.Bytes(),
		"rule", a.Rule, "reason", r.policy.Reason(a.Rule, k.Namespace))
}

// failure logs the error. It returns it if it concerns more than some keys, so that there is no point in going on.
func (r *runner) failure(ctx context.Context, err error, n int) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil || errors.Is(err, storage.ErrUnavailable) {
		return err
	}
	klog.FromContext(ctx).Error(err, "[coredump] Could not remove", "dumps", n)
	return nil
}

func add(to map[Rule]Count, a Action) {
	c := to[a.Rule]
	c.add(a.Bytes())
	to[a.Rule] = c
}
