// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/file"
	"example.io/coredump/pkg/storage/storagetest"
)

type fakeWatcher struct {
	scanned bool
	err     error
}

func (w *fakeWatcher) Scanned() bool { return w.scanned }
func (w *fakeWatcher) Alive() error  { return w.err }

func TestTheProbesSayWhatTheyMean(t *testing.T) {
	dir, err := file.Open(t.TempDir(), file.Options{})
	must(t, err)
	var storeErr error
	bucket := &storagetest.Faulty{Bucket: dir, Before: func(storagetest.Op, string) error { return storeErr }}
	watcher, pool := &fakeWatcher{}, &fakeWatcher{}
	synced, stopping := false, make(chan struct{})
	clk := clocktesting.NewFakeClock(time.Now())
	told := 0
	h := &health{
		store: bucket, sources: []scanner{watcher}, pool: pool, synced: func() bool { return synced }, stopping: stopping,
		away: func(context.Context, string) { told++ }, clock: clk,
	}
	server := httptest.NewServer(h.handler())
	defer server.Close()
	expect := func(when, startup, live, ready string) {
		t.Helper()
		for path, want := range map[string]string{"/startupz": startup, "/livez": live, "/readyz": ready} {
			resp, err := http.Get(server.URL + path)
			must(t, err)
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if ok := resp.StatusCode == http.StatusOK; ok != (want == "ok") || !strings.Contains(string(body), want) {
				t.Errorf("%s: %s says %d %q, want %q", when, path, resp.StatusCode, body, want)
			}
		}
	}
	expect("at the start", "not been gone through", "ok", "not been gone through")
	watcher.scanned = true
	expect("after the first scan", "ok", "ok", "pods of this node")
	synced = true
	expect("when the pods are known", "ok", "ok", "not answered yet")
	h.askStore(t.Context())
	expect("when the store has answered", "ok", "ok", "ok")
	storeErr = &storage.Error{Op: "ping", Kind: storage.ErrUnavailable}
	h.askStore(t.Context())
	expect("when the store is away", "ok", "ok", "store unavailable")
	clk.Step(storePatience - time.Second)
	h.askStore(t.Context())
	if told != 0 {
		t.Error("somebody was told of a short absence")
	}
	clk.Step(time.Second)
	h.askStore(t.Context())
	if told != 1 {
		t.Error("nobody was told that the store has been away for long")
	}
	storeErr = nil
	h.askStore(t.Context())
	expect("when it is back", "ok", "ok", "ok")
	clk.Step(time.Hour)
	storeErr = &storage.Error{Op: "ping", Kind: storage.ErrUnavailable}
	h.askStore(t.Context())
	if told != 1 {
		t.Error("another absence counts from the first one")
	}
	storeErr = nil
	h.askStore(t.Context())
	pool.err = errors.New("a worker is stuck")
	expect("when a worker is stuck", "ok", "a worker is stuck", "ok")
	pool.err, watcher.err = nil, errors.New("a loop is stuck")
	expect("when a loop is stuck", "ok", "a loop is stuck", "ok")
	watcher.err = nil
	close(stopping)
	expect("at the end", "ok", "ok", "stopping")
}

func TestMetricsAreServed(t *testing.T) {
	registerMetrics()
	rec := httptest.NewRecorder()
	(&health{}).handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if !strings.Contains(rec.Body.String(), "coredump_nodehandler_store_reachable") {
		t.Errorf("%d: %.300s", rec.Code, rec.Body)
	}
}
