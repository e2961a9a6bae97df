// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package unreadable

import (
	"errors"
	"testing"

	"k8s.io/component-base/metrics/testutil"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"

	"example.io/coredump/pkg/storage"
)

// Every time counts, and the log has each record once for every reason.
func TestReports(t *testing.T) {
	logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true)))
	ctx := klog.NewContext(t.Context(), logger)
	r := NewReporter()
	a, b := storage.Key{Namespace: "shop", Pod: "a"}, storage.Key{Namespace: "shop", Pod: "b"}
	for range 3 {
		r.Report(ctx, a, errors.New("no JSON"))
	}
	r.Report(ctx, a, errors.New("no kind"))
	r.Report(ctx, b, errors.New("no JSON"))
	if n, err := testutil.GetCounterMetricValue(records); err != nil || n != 5 {
		t.Errorf("counted %v, %v, want 5", n, err)
	}
	if log := logger.GetSink().(ktesting.Underlier).GetBuffer().Data(); len(log) != 3 {
		t.Errorf("logged %v, want three lines", log)
	}
}
