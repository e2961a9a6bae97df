// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package unreadable deals with records that are in the bucket and cannot be understood. They are left out of lists, because one
// bad record must not hide the good ones, and not silently.
package unreadable

import (
	"context"
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"
	"k8s.io/utils/lru"

	"example.io/coredump/pkg/storage"
)

// remembered bounds how many records are known to have been logged.
const remembered = 4096

var (
	records = metrics.NewCounter(&metrics.CounterOpts{
		Name:           "coredump_apiserver_unreadable_records_total",
		Help:           "How often a record was left out because it cannot be understood.",
		StabilityLevel: metrics.ALPHA,
	})
	register sync.Once
)

// Reporter counts unreadable records, and logs each once for every reason. Safe for concurrent use.
type Reporter struct {
	mu     sync.Mutex
	logged *lru.Cache
}

// NewReporter makes a reporter.
func NewReporter() *Reporter {
	register.Do(func() { legacyregistry.MustRegister(records) })
	return &Reporter{logged: lru.New(remembered)}
}

// Report is called whenever a record is left out.
func (r *Reporter) Report(ctx context.Context, key storage.Key, err error) {
	records.Inc()
	if r.first([2]string{key.Record(), err.Error()}) {
		klog.FromContext(ctx).Error(err, "Record left out", "key", key.Record())
	}
}

func (r *Reporter) first(what [2]string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.logged.Get(what); known {
		return false
	}
	r.logged.Add(what, nil)
	return true
}
