// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"example.io/coredump/pkg/capture/socket"
	"example.io/coredump/pkg/storage"
)

const (
	// storePatience is how long the store may be away before somebody is told who does not look at metrics.
	storePatience = 5 * time.Minute
	// storeInterval is how often the store is asked whether it is there, and storeTimeout how long it has for the answer.
	storeInterval, storeTimeout = 15 * time.Second, 10 * time.Second
)

var storeReachable = metrics.NewGauge(&metrics.GaugeOpts{
	Subsystem: "coredump_nodehandler", Name: "store_reachable", StabilityLevel: metrics.ALPHA,
	Help: "1 if the store answered when it was asked last, 0 if not.",
})

var registerMetrics = sync.OnceFunc(func() {
	legacyregistry.MustRegister(storeReachable, capturing, socketRefused)
	for _, why := range socket.Refusals {
		socketRefused.WithLabelValues(string(why))
	}
})

// scanner is a source of dumps, as far as its health goes.
type scanner interface {
	// Scanned tells whether everything that was there at the start has been seen.
	Scanned() bool
	Alive() error
}

// health answers the probes.
//
//   - Started: the directory is locked and has been gone through once.
//   - Live: the loops and the workers move. A store or an API server that is away is no reason to restart.
//   - Ready: started, the pods of the node are known, the store answered when it was asked last, and the program is not about to
//     stop. No traffic depends on it: it shows in kubectl, and it holds up a roll-out that would break every node.
type health struct {
	store    storage.Bucket
	sources  []scanner
	pool     interface{ Alive() error }
	synced   func() bool
	stopping <-chan struct{}
	// away is told, each time that the store is asked in vain, when it has been away for storePatience. It does not block. nil: nobody is.
	away  func(ctx context.Context, what string)
	clock clock.PassiveClock

	mu       sync.Mutex
	storeErr error
	since    time.Time // of storeErr
	asked    bool
}

func (h *health) started() error {
	for _, s := range h.sources {
		if !s.Scanned() {
			return errors.New("the directory has not been gone through yet, or another node handler has it")
		}
	}
	return nil
}

func (h *health) live() error {
	err := h.pool.Alive()
	for _, s := range h.sources {
		err = errors.Join(err, s.Alive())
	}
	return err
}

func (h *health) ready() error {
	select {
	case <-h.stopping:
		return errors.New("stopping")
	default:
	}
	if err := h.started(); err != nil {
		return err
	}
	if !h.synced() {
		return errors.New("the pods of this node are not known yet")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.asked {
		return errors.New("the store has not answered yet")
	}
	if h.storeErr != nil {
		return fmt.Errorf("the store does not answer: %w", h.storeErr)
	}
	return nil
}

// watchStore asks the store now and then whether it is there, until ctx ends.
func (h *health) watchStore(ctx context.Context) error {
	tick := time.NewTicker(storeInterval)
	defer tick.Stop()
	for {
		h.askStore(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (h *health) askStore(ctx context.Context) {
	asking, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := h.store.Ping(asking)
	if ctx.Err() != nil {
		return
	}
	if errors.Is(err, storage.ErrDenied) {
		err = nil // the store is there; credentials that may only write learn no more, see storage.Bucket
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	log := klog.FromContext(ctx)
	switch {
	case err != nil && (h.storeErr == nil || !h.asked):
		h.since = h.clock.Now()
		log.Error(err, "The store does not answer; dumps wait on the node")
	case err == nil && h.storeErr != nil:
		log.Info("The store answers again")
	}
	if away := h.clock.Since(h.since); err != nil && away >= storePatience && h.away != nil {
		h.away(ctx, fmt.Sprintf("for %v: %v", away.Round(time.Minute), err))
	}
	h.storeErr, h.asked = err, true
	if err == nil {
		storeReachable.Set(1)
	} else {
		storeReachable.Set(0)
	}
}
