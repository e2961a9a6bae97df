// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package upload

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

const subsystem = "coredump_nodehandler"

var (
	dumpsTotal = metrics.NewCounterVec(&metrics.CounterOpts{
		Subsystem: subsystem, Name: "dumps_total", StabilityLevel: metrics.ALPHA,
		Help: "Dumps that are done with, by result: uploaded, existed (uploaded by an earlier run), set-aside, changed (looked at again), gone.",
	}, []string{"result"})
	bytesTotal = metrics.NewCounterVec(&metrics.CounterOpts{
		Subsystem: subsystem, Name: "bytes_total", StabilityLevel: metrics.ALPHA,
		Help: "Bytes of uploaded dumps, by kind: core (uncompressed), stored.",
	}, []string{"kind"})
	failures = metrics.NewCounterVec(&metrics.CounterOpts{
		Subsystem: subsystem, Name: "failures_total", StabilityLevel: metrics.ALPHA,
		Help: "Failed attempts at uploading, by reason: denied, corrupt, unavailable, identity, stalled, shutdown, other. All but those at shutdown are tried again.",
	}, []string{"reason"})
	queueLength = metrics.NewGauge(&metrics.GaugeOpts{
		Subsystem: subsystem, Name: "queue_length", StabilityLevel: metrics.ALPHA,
		Help: "Finished dumps that are not uploaded, those that are being uploaded included.",
	})
	oldestWaiting = metrics.NewGauge(&metrics.GaugeOpts{
		Subsystem: subsystem, Name: "oldest_waiting_seconds", StabilityLevel: metrics.ALPHA,
		Help: "How long the oldest finished dump has been waiting for its upload.",
	})
	uploadSeconds = metrics.NewHistogram(&metrics.HistogramOpts{
		Subsystem: subsystem, Name: "upload_seconds", StabilityLevel: metrics.ALPHA,
		Help:    "How long the successful attempt at uploading a dump took.",
		Buckets: metrics.ExponentialBuckets(0.1, 2.5, 12),
	})
)

// RegisterMetrics adds the metrics of this package to the registry of component-base.
var RegisterMetrics = sync.OnceFunc(func() {
	legacyregistry.MustRegister(dumpsTotal, bytesTotal, failures, queueLength, oldestWaiting, uploadSeconds)
	// Counters that are there from the start, so that the first event is an increase.
	for _, result := range []string{resultUploaded, resultExisted, resultSetAside, resultChanged, resultGone} {
		dumpsTotal.WithLabelValues(result)
	}
	for _, kind := range []string{bytesCore, bytesStored} {
		bytesTotal.WithLabelValues(kind)
	}
	for _, reason := range []string{failureDenied, failureCorrupt, failureUnavailable, failureIdentity, failureStalled, failureShutdown, failureOther} {
		failures.WithLabelValues(reason)
	}
})

// The values of the labels.
const (
	resultUploaded = "uploaded"
	resultExisted  = "existed"
	resultSetAside = "set-aside"
	resultChanged  = "changed"
	resultGone     = "gone"

	bytesCore   = "core"
	bytesStored = "stored"

	failureDenied      = "denied"
	failureCorrupt     = "corrupt"
	failureUnavailable = "unavailable"
	failureIdentity    = "identity"
	failureStalled     = "stalled"
	failureShutdown    = "shutdown"
	failureOther       = "other"
)
