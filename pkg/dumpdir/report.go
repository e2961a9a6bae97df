// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package dumpdir

import (
	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	"k8s.io/utils/lru"
)

// reporter tells about files that are left where they are: each is counted and logged once, however often it is met. Safe for
// concurrent use.
type reporter struct {
	seen   *lru.Cache
	budget *rate.Limiter
}

const (
	// reported bounds how many files are remembered. Of more, some are told about again at the next scan.
	reported = 8192
	// Whoever drops junk shall not fill the logs with it; the counters count everything.
	reportsPerSecond, reportsBurst = 1, 30
)

func newReporter() *reporter {
	return &reporter{lru.New(reported), rate.NewLimiter(reportsPerSecond, reportsBurst)}
}

type report struct {
	path   string
	reason RefusalReason
}

// ignored is the reason of files whose names are not of the template.
const ignored RefusalReason = "ignored"

func (r *reporter) left(log logr.Logger, path string, reason RefusalReason) {
	if _, known := r.seen.Get(report{path, reason}); known {
		return
	}
	r.seen.Add(report{path, reason}, nil)
	refused.WithLabelValues(string(reason)).Inc()
	if r.budget.Allow() {
		log.Info("Left a file where it is", "file", path, "reason", reason)
	}
}
