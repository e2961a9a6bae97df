// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package download

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"

	"example.io/coredump/pkg/storage"
)

var (
	downloads = metrics.NewCounterVec(&metrics.CounterOpts{
		Name: "coredump_apiserver_downloads_total",
		Help: "Downloads by result (complete, which a range is too; not_modified; refused with a Status; aborted because the client_gone, " +
			"the client_stalled, or the store_failed) and by format.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"result", "format"})
	bytesSent = metrics.NewCounter(&metrics.CounterOpts{
		Name:           "coredump_apiserver_download_bytes_total",
		Help:           "Bytes sent to clients, as compressed.",
		StabilityLevel: metrics.ALPHA,
	})
	inflight = metrics.NewGauge(&metrics.GaugeOpts{
		Name:           "coredump_apiserver_downloads_inflight",
		Help:           "Downloads that run at present.",
		StabilityLevel: metrics.ALPHA,
	})
	rejected = metrics.NewCounter(&metrics.CounterOpts{
		Name:           "coredump_apiserver_download_rejected_total",
		Help:           "Downloads that were refused because too many ran, in all or of the same user.",
		StabilityLevel: metrics.ALPHA,
	})
	corrupted = metrics.NewCounter(&metrics.CounterOpts{
		Name: "coredump_apiserver_corrupt_objects_total",
		Help: "How often a download came upon an object in the store, a core or a context, that is not what its record says. " +
			"The log has the key. Cores are refused or aborted then; contexts are left out.",
		StabilityLevel: metrics.ALPHA,
	})
	register sync.Once
)

func registerMetrics() {
	register.Do(func() { legacyregistry.MustRegister(downloads, bytesSent, inflight, rejected, corrupted) })
}

// The results of a download.
const (
	complete      = "complete"
	notModified   = "not_modified"
	refused       = "refused"
	clientGone    = "client_gone"
	clientStalled = "client_stalled"
	storeFailed   = "store_failed"
)

func (t *transfer) result(ctx context.Context, err error) string {
	switch {
	case err == nil && t.answer.Code == http.StatusNotModified:
		return notModified
	case err == nil:
		return complete
	case !t.committed:
		return refused
	case errors.Is(err, errStalled):
		return clientStalled
	case errors.Is(err, errClientGone), ctx.Err() != nil:
		return clientGone
	}
	return storeFailed
}

// countCorrupt counts an object that is not what its record says.
func countCorrupt(err error) {
	if errors.Is(err, storage.ErrCorrupt) {
		corrupted.Inc()
	}
}

// record counts the download and writes a line about it: who took what, how much, and how it ended.
func (t *transfer) record(ctx context.Context, err error) {
	var sent int64
	if t.client != nil {
		sent = t.client.sent.Load()
	}
	result := t.result(ctx, err)
	downloads.WithLabelValues(result, t.format).Inc()
	bytesSent.Add(float64(sent))

	// Not klog.KRef, which passes newlines of a name on.
	line := []any{"resource", t.object.Resource.Resource, "namespace", t.object.Namespace, "name", t.object.Name,
		"result", result, "format", t.format, "range", t.span(), "dumps", t.dumps, "coreBytes", t.size, "bytes", sent, "seconds", time.Since(t.start).Seconds()}
	if u, ok := request.UserFrom(ctx); ok {
		line = append(line, "user", u.GetName(), "uid", u.GetUID())
	}
	var api apierrors.APIStatus
	switch {
	case errors.As(err, &api):
		line = append(line, "code", api.Status().Code, "reason", api.Status().Message)
	case err != nil:
		line = append(line, "code", t.answer.Code, "reason", err.Error())
		countCorrupt(err)
	default:
		line = append(line, "code", t.answer.Code)
	}
	klog.FromContext(ctx).Info("Download", line...)
}
