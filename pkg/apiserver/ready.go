// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/klog/v2"

	"example.io/coredump/pkg/storage"
)

const (
	pingTimeout  = 5 * time.Second
	pingInterval = time.Second
)

// storeCheck makes the server wait for the store at its start, for a bounded time, and only then. A mistake in the configuration so
// stops a rollout. Later the server stays ready while the store is away and answers 503: kube-apiserver would
// take an unready server out of discovery, and without complete discovery no namespace of the cluster can be deleted.
type storeCheck struct {
	passed atomic.Bool
}

// addStoreCheck adds the check to /readyz. /livez never depends on the store.
func (c Config) addStoreCheck(server *genericapiserver.GenericAPIServer, bucket storage.Bucket) error {
	check := &storeCheck{}
	if err := server.AddPostStartHook("coredump-store", func(hook genericapiserver.PostStartHookContext) error {
		go check.wait(hook.Context, bucket, c.StoreGrace)
		return nil
	}); err != nil {
		return err
	}
	return server.AddReadyzChecks(healthz.NamedCheck("store", check.ready))
}

func (s *storeCheck) ready(*http.Request) error {
	if !s.passed.Load() {
		return errors.New("the store has not been reached yet")
	}
	return nil
}

// wait asks for the store until it answers or grace is over.
func (s *storeCheck) wait(ctx context.Context, bucket storage.Bucket, grace time.Duration) {
	defer s.passed.Store(true)
	logger := klog.FromContext(ctx)
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	for {
		err := ping(ctx, bucket)
		if err == nil {
			logger.Info("Store reached")
			return
		}
		select {
		case <-ctx.Done():
			logger.Error(err, "Store not reached, ready without it", "waited", grace)
			return
		case <-time.After(pingInterval):
		}
	}
}

func ping(ctx context.Context, bucket storage.Bucket) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return bucket.Ping(ctx)
}
