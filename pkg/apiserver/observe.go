// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"
	"time"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"example.io/coredump/pkg/storage"
)

var (
	storeRequests = metrics.NewCounterVec(&metrics.CounterOpts{
		Name: "coredump_apiserver_store_requests_total",
		Help: "Requests to the object store by operation and result (ok, not_found, changed, denied, unavailable, canceled, error). " +
			"A list counts as one, however many pages it has.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"operation", "result"})
	storeSeconds = metrics.NewHistogramVec(&metrics.HistogramOpts{
		Name:           "coredump_apiserver_store_request_seconds",
		Help:           "Time until the object store answered; of an open, not the time to read what was opened.",
		Buckets:        metrics.ExponentialBuckets(0.002, 2.5, 10), // 2 ms to 8 s
		StabilityLevel: metrics.ALPHA,
	}, []string{"operation"})
	registerStore sync.Once
)

// observed counts the requests to a bucket. Only what the server uses is counted.
type observed struct {
	storage.Bucket
}

func observe(b storage.Bucket) storage.Bucket {
	registerStore.Do(func() { legacyregistry.MustRegister(storeRequests, storeSeconds) })
	if p, ok := b.(storage.Presigner); ok {
		return &struct {
			observed
			storage.Presigner
		}{observed{b}, p}
	}
	return &observed{b}
}

func (o *observed) Open(ctx context.Context, key, etag string, offset, length int64) (io.ReadCloser, error) {
	begin := time.Now()
	r, err := o.Bucket.Open(ctx, key, etag, offset, length)
	done("open", begin, err)
	return r, err
}

func (o *observed) Stat(ctx context.Context, key string) (storage.Object, error) {
	begin := time.Now()
	obj, err := o.Bucket.Stat(ctx, key)
	done("stat", begin, err)
	return obj, err
}

func (o *observed) Ping(ctx context.Context) error {
	begin := time.Now()
	err := o.Bucket.Ping(ctx)
	done("ping", begin, err)
	return err
}

// List counts the list when it ends. Its time would be that of the receiver, so it is not taken.
func (o *observed) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Object, error] {
	return func(yield func(storage.Object, error) bool) {
		var last error
		for obj, err := range o.Bucket.List(ctx, prefix, after) {
			last = err
			if !yield(obj, err) {
				break
			}
		}
		storeRequests.WithLabelValues("list", result(last)).Inc()
	}
}

func done(operation string, begin time.Time, err error) {
	storeRequests.WithLabelValues(operation, result(err)).Inc()
	storeSeconds.WithLabelValues(operation).Observe(time.Since(begin).Seconds())
}

func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, storage.ErrNotFound):
		return "not_found"
	case errors.Is(err, storage.ErrChanged):
		return "changed"
	case errors.Is(err, storage.ErrDenied):
		return "denied"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, storage.ErrUnavailable):
		return "unavailable"
	}
	return "error"
}
