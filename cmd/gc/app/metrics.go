// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/push"
	"k8s.io/component-base/metrics"

	"example.io/coredump/pkg/retention"
)

const (
	pushJob     = "coredump-gc"
	pushTimeout = 10 * time.Second
)

// deliverMetrics writes the metrics of the run where it was asked to. They are gauges of the last run, in a registry of their own:
// a program that ends after each run has no counters, and its process metrics are of no use to anybody.
func (r *run) deliverMetrics(ctx context.Context) error {
	if r.metricsTextfile == "" && r.pushGateway == "" {
		return nil
	}
	registry := metrics.NewKubeRegistry()
	r.register(registry)
	var errs []error
	if r.metricsTextfile != "" {
		if err := prometheus.WriteToTextfile(r.metricsTextfile, registry); err != nil {
			errs = append(errs, fmt.Errorf("write %s: %w", r.metricsTextfile, err))
		}
	}
	if r.pushGateway != "" {
		ctx, cancel := context.WithTimeout(ctx, pushTimeout)
		defer cancel()
		// Add, not Push: a run that failed leaves the time of the last success there.
		if err := push.New(r.pushGateway, pushJob).Gatherer(registry).AddContext(ctx); err != nil {
			errs = append(errs, fmt.Errorf("push to %s: %w", r.pushGateway, err))
		}
	}
	return errors.Join(errs...)
}

func (r *run) register(registry metrics.KubeRegistry) {
	gauge := func(name, help string, value float64) {
		g := metrics.NewGauge(&metrics.GaugeOpts{Name: "coredump_gc_" + name, Help: help, StabilityLevel: metrics.ALPHA})
		registry.MustRegister(g)
		g.Set(value)
	}
	gaugeByRule := func(name, help string, value func(retention.Rule) float64) {
		g := metrics.NewGaugeVec(&metrics.GaugeOpts{Name: "coredump_gc_" + name, Help: help, StabilityLevel: metrics.ALPHA}, []string{"rule"})
		registry.MustRegister(g)
		for _, rule := range retention.Rules() {
			g.WithLabelValues(string(rule)).Set(value(rule))
		}
	}
	now := float64(time.Now().Unix())
	gauge("last_run_timestamp_seconds", "When gc last ended, whatever came of it.", now)
	gauge("last_exit_code", "Exit code of the last run.", float64(r.code))
	gauge("run_seconds", "How long the last run took.", time.Since(r.started).Seconds())
	gaugeByRule("removed_dumps", "Dumps, leftovers and uploads that the last run removed.", func(rule retention.Rule) float64 { return float64(r.result.Removed[rule].N) })
	gaugeByRule("removed_bytes", "Stored bytes that the last run removed.", func(rule retention.Rule) float64 { return float64(r.result.Removed[rule].Bytes) })
	gaugeByRule("failed_dumps", "What the last run could not remove.", func(rule retention.Rule) float64 { return float64(r.result.Failed[rule].N) })
	if r.code != exitDone && r.code != exitIncomplete {
		return // not all is known
	}
	gauge("kept_dumps", "Dumps that stay.", float64(r.plan.Kept.N))
	gauge("kept_bytes", "Stored bytes of the dumps that stay.", float64(r.plan.Kept.Bytes))
	gauge("foreign_bytes", "Bytes of the objects in the bucket that are not of the layout, which gc leaves alone.", float64(r.inventory.Foreign.Bytes))
	if r.code == exitDone {
		gauge("last_success_timestamp_seconds", "When gc last ended with exit code 0.", now)
	}
}
