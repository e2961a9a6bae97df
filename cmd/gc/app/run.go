// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"time"

	"k8s.io/klog/v2"

	"example.io/coredump/pkg/retention"
	"example.io/coredump/pkg/storage"
)

// clockTolerance is how far the clocks of the store and of this machine may be apart without a word.
const clockTolerance = time.Minute

// run is one run of gc on the bucket, which could not be opened if err is not nil. It ends with one log line that sums up, whatever
// happened.
func (a *App) run(ctx context.Context, cfg *config, bucket storage.Bucket, err error) int {
	if cfg.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cfg.timeout)
		defer cancel()
	}
	r := &run{App: a, config: cfg, started: time.Now(), inventory: &retention.Inventory{}, plan: &retention.Plan{Policy: cfg.policy}, skipped: []retention.Rule{}}
	if err == nil {
		err = r.do(ctx, bucket)
	}
	r.code = r.exitCode(ctx, err)
	if !cfg.dryRun {
		// Also after ctx has ended: that a run was stopped is worth telling.
		if metricsErr := r.deliverMetrics(context.WithoutCancel(ctx)); metricsErr != nil {
			klog.FromContext(ctx).Error(metricsErr, "[coredump] Metrics could not be delivered")
			r.code = max(r.code, exitIncomplete)
		}
	}
	r.sumUp(ctx, err)
	return r.code
}

// run is what becomes known in the course of a run.
type run struct {
	*App
	*config
	started   time.Time
	inventory *retention.Inventory
	plan      *retention.Plan
	result    retention.Result
	skipped   []retention.Rule
	code      int
}

func (r *run) do(ctx context.Context, bucket storage.Bucket) (err error) {
	dumps := storage.NewDumps(bucket)
	now := r.clock(ctx, bucket)
	inventory, err := retention.Scan(ctx, bucket)
	if err != nil {
		return err
	}
	r.inventory = inventory
	if r.policy.UploadGrace > 0 {
		if err := r.inventory.ScanUploads(ctx, bucket); err != nil {
			r.skip(ctx, retention.RuleUnfinished, err)
		}
	}
	// After the scan: a namespace that is made while the bucket is listed is not missed.
	living := r.namespaces(ctx)
	if err := r.policy.ReadOrigins(ctx, dumps, r.inventory, living, now); err != nil {
		r.skip(ctx, retention.RuleGoneNamespace, err)
		living = nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r.plan = r.policy.Plan(r.inventory, living, now)
	if r.dryRun {
		return printPlan(r.Out, r.plan)
	}
	r.result, err = r.plan.CarryOut(ctx, dumps)
	return err
}

// serverClock is a bucket that tells the time.
type serverClock interface {
	ServerTime(context.Context) (time.Time, error)
}

// clock gives the time by the store's clock, which ages count by, where the store tells it. Otherwise it is the
// local one, and the graces, at least an hour each, cover what it is wrong by.
func (r *run) clock(ctx context.Context, b storage.Bucket) time.Time {
	local := r.Now()
	store, ok := b.(serverClock)
	if !ok {
		return local
	}
	now, err := store.ServerTime(ctx)
	if err != nil {
		klog.FromContext(ctx).Error(err, "[coredump] The store does not tell the time, going by the local clock")
		return local
	}
	if d := local.Sub(now).Abs(); d > clockTolerance {
		klog.FromContext(ctx).Info("[coredump] The local clock is wrong, going by the store's", "local", local, "store", now, "difference", d)
	}
	return now
}

// namespaces gives the namespaces that live, or nil where nobody asked or they cannot be told.
func (r *run) namespaces(ctx context.Context) retention.Namespaces {
	if r.policy.GoneGrace == 0 {
		return nil
	}
	client, err := r.Client(r.kubeconfig)
	if err == nil {
		var living retention.Namespaces
		if living, err = livingNamespaces(ctx, client); err == nil {
			return living
		}
	}
	r.skip(ctx, retention.RuleGoneNamespace, err)
	return nil
}

func (r *run) skip(ctx context.Context, rule retention.Rule, err error) {
	klog.FromContext(ctx).Error(err, "[coredump] Rule skipped, the others go on", "rule", rule)
	r.skipped = append(r.skipped, rule)
}

func (r *run) exitCode(ctx context.Context, err error) int {
	switch {
	case err != nil && ctx.Err() != nil:
		return exitStopped
	case err != nil:
		return exitUnavailable
	case len(r.skipped) > 0 || len(r.result.Failed) > 0:
		return exitIncomplete
	}
	return exitDone
}

// sumUp logs the one line of every run.
func (r *run) sumUp(ctx context.Context, err error) {
	removed := r.result.Removed
	if r.dryRun {
		removed = r.plan.Removed()
	}
	total, failed := sum(removed), sum(r.result.Failed)
	values := []any{
		"exitCode", r.code, "dryRun", r.dryRun,
		"removed", total.N, "removedBytes", total.Bytes, "byRule", byRule(removed),
		"failed", failed.N, "spared", r.result.Spared, "skippedRules", r.skipped,
		"kept", r.plan.Kept.N, "keptBytes", r.plan.Kept.Bytes, "incomplete", r.plan.Incomplete.N,
		"foreign", r.inventory.Foreign.N, "foreignBytes", r.inventory.Foreign.Bytes,
		"seconds", time.Since(r.started).Seconds(),
	}
	if err != nil {
		klog.FromContext(ctx).Error(err, "[coredump] GC", values...)
		return
	}
	klog.FromContext(ctx).Info("[coredump] GC", values...)
}

func sum(counts map[retention.Rule]retention.Count) (total retention.Count) {
	for _, c := range counts {
		total.N += c.N
		total.Bytes += c.Bytes
	}
	return total
}

func byRule(counts map[retention.Rule]retention.Count) map[retention.Rule]int {
	n := map[retention.Rule]int{}
	for rule, c := range counts {
		n[rule] = c.N
	}
	return n
}
