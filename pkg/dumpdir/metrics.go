// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package dumpdir

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"example.io/coredump/pkg/upload"
)

const subsystem = "coredump_nodehandler"

var (
	refused = metrics.NewCounterVec(&metrics.CounterOpts{
		Subsystem: subsystem, Name: "refused_total", StabilityLevel: metrics.ALPHA,
		Help: "Files that were left where they are because of what they are, by reason: ignored (the name is not of the template), symlink, hard-link, fifo, socket, device, directory, other-file-system.",
	}, []string{"reason"})
	setAside = metrics.NewCounterVec(&metrics.CounterOpts{
		Subsystem: subsystem, Name: "set_aside_total", StabilityLevel: metrics.ALPHA,
		Help: "Files that were moved to .aside because they cannot be uploaded, by reason: not-a-core, unidentified, too-large, corrupt-compression.",
	}, []string{"reason"})
	rescans = metrics.NewCounterVec(&metrics.CounterOpts{
		Subsystem: subsystem, Name: "scans_total", StabilityLevel: metrics.ALPHA,
		Help: "Scans of the whole directory, by cause: start, interval, overflow.",
	}, []string{"cause"})
	watchErrors = metrics.NewCounter(&metrics.CounterOpts{
		Subsystem: subsystem, Name: "watch_errors_total", StabilityLevel: metrics.ALPHA,
		Help: "Directories that could not be watched or read and files that could not be looked at. Scans try again.",
	})
	unfinished = metrics.NewGauge(&metrics.GaugeOpts{
		Subsystem: subsystem, Name: "unfinished_files", StabilityLevel: metrics.ALPHA,
		Help: "Files that are being waited for because they are not finished.",
	})
)

// RegisterMetrics adds the metrics of this package to the registry of component-base.
var RegisterMetrics = sync.OnceFunc(func() {
	legacyregistry.MustRegister(refused, setAside, rescans, watchErrors, unfinished)
	// Counters that are there from the start, so that the first event is an increase.
	for _, r := range refusalReasons {
		refused.WithLabelValues(string(r))
	}
	for _, r := range upload.Reasons {
		setAside.WithLabelValues(string(r))
	}
})
