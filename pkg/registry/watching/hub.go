// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package watching

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"example.io/coredump/pkg/registry/slots"
	"example.io/coredump/pkg/registry/status"
	"example.io/coredump/pkg/storage"
)

const (
	// linger is how long it is kept what a poller has seen after its last watcher has left: longer than clients wait before they come back.
	linger = 5 * time.Minute
	// maxIdle is of how many pollers that is kept.
	maxIdle = 16
	// maxPerUser is how many watches of one user may be open. Each may look at the bucket by itself, if it is of another pod than the others.
	maxPerUser = 100
)

var (
	watches = metrics.NewGauge(&metrics.GaugeOpts{
		Name:           "coredump_apiserver_watches",
		Help:           "Watches that are open at present.",
		StabilityLevel: metrics.ALPHA,
	})
	polls = metrics.NewCounterVec(&metrics.CounterOpts{
		Name:           "coredump_apiserver_watch_polls_total",
		Help:           "How often the store was listed for watches, by result (ok, failed).",
		StabilityLevel: metrics.ALPHA,
	}, []string{"result"})
	ended = metrics.NewCounterVec(&metrics.CounterOpts{
		Name: "coredump_apiserver_watches_ended_total",
		Help: "Watches that the server refused or ended, by reason (expired: the client has to list again; slow: it did not take its events; " +
			"failed: the store could not be read).",
		StabilityLevel: metrics.ALPHA,
	}, []string{"reason"})
	register sync.Once
)

// The labels of polls and ended.
const (
	pollOK, pollFailed             = "ok", "failed"
	endExpired, endSlow, endFailed = "expired", "slow", "failed"
)

func registerMetrics() {
	register.Do(func() {
		legacyregistry.MustRegister(watches, polls, ended)
		for _, r := range []string{pollOK, pollFailed} {
			polls.WithLabelValues(r)
		}
		for _, r := range []string{endExpired, endSlow, endFailed} {
			ended.WithLabelValues(r)
		}
	})
}

// Config is what a Hub is made of.
type Config struct {
	Source Source
	// Interval is the time between two polls. It is longer where a poll takes long, so that polls take a tenth of the time at most, and where they fail.
	Interval time.Duration
	// LivingUID gives the UID of the namespace that lives under the name, "" if none does. It asks each time.
	LivingUID func(ctx context.Context, namespace string) (string, error)
	// Unreadable is told of records that cannot be understood.
	Unreadable func(ctx context.Context, key storage.Key, err error)
}

// Hub has the pollers. Safe for concurrent use.
type Hub struct {
	config Config
	open   *slots.Slots // of the watches

	mu      sync.Mutex
	pollers map[pollerKey]*poller
}

// pollerKey is what those have in common who share a poller.
type pollerKey struct {
	scope storage.Scope
	view  View
}

// NewHub makes a hub.
func NewHub(c Config) *Hub {
	registerMetrics()
	return &Hub{config: c, open: slots.New(slots.Unbounded, maxPerUser), pollers: map[pollerKey]*poller{}}
}

// Watch begins a watch, which ends with ctx or when it is stopped. Its errors are Statuses.
func (h *Hub) Watch(ctx context.Context, req Request) (watch.Interface, error) {
	from, err := startOf(req.Options)
	if err != nil {
		return nil, err
	}
	req.source = h.config.Source
	leave, err := h.open.Take(ctx)
	if err != nil {
		return nil, status.TooManyWatchesOfUser(maxPerUser)
	}
	p := h.acquire(pollerKey{req.Scope, req.View})
	w, err := p.join(ctx, req, from)
	if err != nil {
		h.release(p)
		leave()
		return nil, req.Status(err)
	}
	watches.Inc()
	go func() {
		defer leave()
		defer h.release(p)
		defer watches.Dec()
		w.run(ctx)
	}()
	return w, nil
}

// acquire gives the poller, which stays until it is released.
func (h *Hub) acquire(key pollerKey) *poller {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.pollers[key]
	if p == nil {
		p = newPoller(h.config, key)
		h.pollers[key] = p
	}
	p.users++
	if p.forget != nil {
		p.forget.Stop()
		p.forget = nil
	}
	return p
}

func (h *Hub) release(p *poller) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.users--; p.users > 0 || h.pollers[p.key] != p {
		return
	}
	idle := 0
	for _, other := range h.pollers {
		if other.users == 0 {
			idle++
		}
	}
	if idle > maxIdle || !p.worthKeeping() {
		delete(h.pollers, p.key)
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(linger, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if p.forget == timer && h.pollers[p.key] == p {
			delete(h.pollers, p.key)
		}
	})
	p.forget = timer
}
