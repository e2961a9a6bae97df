// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package tell

import (
	"slices"
	"sync"
	"time"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"example.io/coredump/pkg/judge"
	"example.io/coredump/pkg/podcopy"
	"example.io/coredump/pkg/spool"
)

const subsystem = "coredump_nodehandler"

var (
	capturesTotal = metrics.NewCounterVec(&metrics.CounterOpts{
		Subsystem: subsystem, Name: "captures_total", StabilityLevel: metrics.ALPHA,
		Help: "Crashes that the kernel delivered, by mode (pipe, socket) and result: kept, truncated (kept in part), suppressed, forwarded, failed.",
	}, []string{"mode", "result"})
	capturedTotal = metrics.NewCounterVec(&metrics.CounterOpts{
		Subsystem: subsystem, Name: "captured_total", StabilityLevel: metrics.ALPHA,
		Help: "Dumps that were kept, in whole or in part, by namespace: the first 200, _other for further ones, _unknown where it could not be verified.",
	}, []string{"namespace"})
	truncatedTotal = metrics.NewCounterVec(&metrics.CounterOpts{
		Subsystem: subsystem, Name: "truncated_total", StabilityLevel: metrics.ALPHA,
		Help: "Dumps that were kept in part, by namespace and reason: killed, too-large, deadline, stalled, no-space, abandoned, read-error, other.",
	}, []string{"namespace", "reason"})
	suppressedTotal = metrics.NewCounterVec(&metrics.CounterOpts{
		Subsystem: subsystem, Name: "suppressed_total", StabilityLevel: metrics.ALPHA,
		Help: "Dumps that were not taken, by namespace and reason: opted-out, rate-limit, repeated, concurrency, not-a-core, empty, no-space, too-large, other.",
	}, []string{"namespace", "reason"})
	holdSeconds = metrics.NewHistogramVec(&metrics.HistogramOpts{
		Subsystem: subsystem, Name: "hold_seconds", StabilityLevel: metrics.ALPHA,
		Help:    "How long crashed processes were held for their dumps, by mode.",
		Buckets: metrics.ExponentialBuckets(0.002, 2.5, 13),
	}, []string{"mode"})
	firstByteSeconds = metrics.NewHistogramVec(&metrics.HistogramOpts{
		Subsystem: subsystem, Name: "first_byte_seconds", StabilityLevel: metrics.ALPHA,
		Help:    "Time from the start of the handler of a crash to the first byte of the dump, by mode.",
		Buckets: metrics.ExponentialBuckets(0.001, 2, 10),
	}, []string{"mode"})
	verdictSeconds = metrics.NewHistogram(&metrics.HistogramOpts{
		Subsystem: subsystem, Name: "verdict_seconds", StabilityLevel: metrics.ALPHA,
		Help:    "How long it took to find out who crashed and to decide what becomes of the dump.",
		Buckets: metrics.ExponentialBuckets(0.0005, 2, 12),
	})
	unansweredTotal = metrics.NewCounter(&metrics.CounterOpts{
		Subsystem: subsystem, Name: "unanswered_total", StabilityLevel: metrics.ALPHA,
		Help: "Dumps that were taken without a verdict, for the node handler did not answer in time.",
	})
	forwardedTotal = metrics.NewCounterVec(&metrics.CounterOpts{
		Subsystem: subsystem, Name: "forwarded_total", StabilityLevel: metrics.ALPHA,
		Help: "Crashes that were given to the handler which the host had before, by reason: host (of no pod; in mode socket, for corepipe tells nobody), opted-out.",
	}, []string{"reason"})
	driftTotal = metrics.NewCounterVec(&metrics.CounterOpts{
		Subsystem: subsystem, Name: "host_drift_total", StabilityLevel: metrics.ALPHA,
		Help: "Settings of the host that somebody else had changed and that were put back, by setting.",
	}, []string{"setting"})
	spoolBytes = metrics.NewGauge(&metrics.GaugeOpts{
		Subsystem: subsystem, Name: "spool_bytes", StabilityLevel: metrics.ALPHA,
		Help: "Bytes that the spool takes on the disk.",
	})
	spoolEntries = metrics.NewGaugeVec(&metrics.GaugeOpts{
		Subsystem: subsystem, Name: "spool_entries", StabilityLevel: metrics.ALPHA,
		Help: "Entries in the spool, by state: incoming, ready, aside.",
	}, []string{"state"})
	active = metrics.NewGauge(&metrics.GaugeOpts{
		Subsystem: subsystem, Name: "captures_active", StabilityLevel: metrics.ALPHA,
		Help: "Dumps that are being taken.",
	})
	copiesTotal = metrics.NewCounterVec(&metrics.CounterOpts{
		Subsystem: subsystem, Name: "copies_total", StabilityLevel: metrics.ALPHA,
		Help: "Copies into containers that pods asked for, by result: copied, refused, busy, hung, no-space, too-large, exists, deadline, failed.",
	}, []string{"result"})
	copiesHung = metrics.NewGauge(&metrics.GaugeOpts{
		Subsystem: subsystem, Name: "copies_hung", StabilityLevel: metrics.ALPHA,
		Help: "Copies that were given up and still wait for a file system that does not answer.",
	})
	invalidTotal = metrics.NewCounterVec(&metrics.CounterOpts{
		Subsystem: subsystem, Name: "invalid_settings_total", StabilityLevel: metrics.ALPHA,
		Help: "Settings that were met at a crash and mean nothing, by where: namespace (label), pod (annotation).",
	}, []string{"where"})
	eventsTotal = metrics.NewCounterVec(&metrics.CounterOpts{
		Subsystem: subsystem, Name: "events_total", StabilityLevel: metrics.ALPHA,
		Help: "Kubernetes Events, by reason and result: sent, failed (an attempt to send it), dropped (there were too many).",
	}, []string{"reason", "result"})
)

// The values of the labels.
const (
	resultKept       = "kept"
	resultTruncated  = "truncated"
	resultSuppressed = "suppressed"
	resultForwarded  = "forwarded"
	resultFailed     = "failed"

	resultCopied = "copied"

	eventSent    = "sent"
	eventFailed  = "failed"
	eventDropped = "dropped"
)

// Why crashes are forwarded.
const (
	ForwardedHost     = "host"
	ForwardedOptedOut = "opted-out"
)

// Modes are the values of the label mode.
var Modes = []string{"pipe", "socket"}

// RegisterMetrics adds the metrics of this package to the registry of component-base.
var RegisterMetrics = sync.OnceFunc(func() {
	legacyregistry.MustRegister(capturesTotal, capturedTotal, truncatedTotal, suppressedTotal, holdSeconds, firstByteSeconds, verdictSeconds, unansweredTotal,
		forwardedTotal, driftTotal, spoolBytes, spoolEntries, active, copiesTotal, copiesHung, invalidTotal, eventsTotal)
	// Counters that are there from the start, so that the first event is an increase.
	for _, mode := range Modes {
		for _, result := range []string{resultKept, resultTruncated, resultSuppressed, resultForwarded, resultFailed} {
			capturesTotal.WithLabelValues(mode, result)
		}
		holdSeconds.WithLabelValues(mode)
		firstByteSeconds.WithLabelValues(mode)
	}
	initNamespace(unknown)
	initNamespace(otherNamespaces)
	for _, why := range []string{ForwardedHost, ForwardedOptedOut} {
		forwardedTotal.WithLabelValues(why)
	}
	for _, setting := range []string{"core_pattern", "core_pipe_limit", "suid_dumpable"} {
		driftTotal.WithLabelValues(setting)
	}
	for _, state := range []string{"incoming", "ready", "aside"} {
		spoolEntries.WithLabelValues(state)
	}
	copiesTotal.WithLabelValues(resultCopied)
	for _, reason := range podcopy.Reasons {
		copiesTotal.WithLabelValues(reason)
	}
	for _, where := range []string{judge.OnNamespace, judge.OnPod} {
		invalidTotal.WithLabelValues(where)
	}
	for reason := range limits {
		for _, result := range []string{eventSent, eventFailed, eventDropped} {
			eventsTotal.WithLabelValues(string(reason), result)
		}
	}
})

// SetSpool says what is in the spool: bytes on the disk, and entries by state.
func SetSpool(bytes int64, incoming, ready, aside int) {
	spoolBytes.Set(float64(bytes))
	spoolEntries.WithLabelValues("incoming").Set(float64(incoming))
	spoolEntries.WithLabelValues("ready").Set(float64(ready))
	spoolEntries.WithLabelValues("aside").Set(float64(aside))
}

// SetActive says how many dumps are being taken, SetHung how many copies hang.
func SetActive(n int) { active.Set(float64(n)) }

// SetHung says how many copies into containers were given up and still wait for a file system.
func SetHung(n int) { copiesHung.Set(float64(n)) }

func captures(mode, result string) { capturesTotal.WithLabelValues(knownMode(mode), result).Inc() }

func observeHold(mode string, o *spool.Outcome) {
	mode = knownMode(mode)
	if o.HoldMicros > 0 {
		holdSeconds.WithLabelValues(mode).Observe((time.Duration(o.HoldMicros) * time.Microsecond).Seconds())
	}
	if o.FirstByteMicros > 0 {
		firstByteSeconds.WithLabelValues(mode).Observe((time.Duration(o.FirstByteMicros) * time.Microsecond).Seconds())
	}
	if !o.Answered {
		unansweredTotal.Inc()
	}
}

func knownMode(mode string) string {
	if !slices.Contains(Modes, mode) {
		return string(other)
	}
	return mode
}

func known(r spool.Reason, all []spool.Reason) string {
	if !slices.Contains(all, r) {
		return string(other)
	}
	return string(r)
}

// otherNamespaces stands for those that came after the first maxNamespaces.
const (
	otherNamespaces = "_other"
	maxNamespaces   = 200
)

// namespaces are those that have series of their own. Series are never removed, so neither are they.
var namespaces = &bounded{most: maxNamespaces, seen: map[string]bool{}, first: initNamespace}

type bounded struct {
	most  int
	first func(string)
	mu    sync.Mutex
	seen  map[string]bool
}

// of gives the value of the label for a namespace.
func (b *bounded) of(ns string) string {
	if ns == "" {
		return unknown
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen[ns] {
		return ns
	}
	if len(b.seen) == b.most || len(ns) > 63 {
		return otherNamespaces
	}
	b.seen[ns] = true
	b.first(ns)
	return ns
}

// initNamespace makes all series of a namespace, so that what follows is an increase. The first dump of a namespace is none unless it is scraped
// between.
func initNamespace(ns string) {
	capturedTotal.WithLabelValues(ns)
	for _, r := range truncatedReasons {
		truncatedTotal.WithLabelValues(ns, string(r))
	}
	for _, r := range suppressedReasons {
		suppressedTotal.WithLabelValues(ns, string(r))
	}
}
