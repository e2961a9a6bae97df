// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	_ "k8s.io/component-base/metrics/prometheus/restclient" // metrics of our requests to kube-apiserver
	"k8s.io/component-base/version"
	"k8s.io/klog/v2"

	"example.io/coredump/pkg/apiserver"
	"example.io/coredump/pkg/storage/buckets"
)

// run puts the server together and runs it until ctx ends.
func (o *options) run(ctx context.Context) error {
	klog.FromContext(ctx).Info("Starting", "version", version.Get().GitVersion)
	config, err := o.config(ctx)
	if err != nil {
		return err
	}
	server, err := apiserver.New(*config)
	if err != nil {
		return err
	}
	return server.PrepareRun().RunWithContext(ctx)
}

func (o *options) config(ctx context.Context) (*apiserver.Config, error) {
	cache, err := o.cacheBytes()
	if err != nil {
		return nil, fmt.Errorf("--record-cache-size: %w", err)
	}
	bucket, err := buckets.Open(ctx, o.store)
	if err != nil {
		return nil, fmt.Errorf("--store: %w", err)
	}
	generic := apiserver.NewGenericConfig()
	generic.EnableProfiling = o.profiling
	generic.ShutdownDelayDuration = o.shutdownDelay
	if err := o.coreAPI.ApplyTo(generic); err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	client, err := newClient(generic.ClientConfig)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	if err := o.serving.MaybeDefaultWithSelfSignedCerts("localhost", nil, nil); err != nil {
		return nil, fmt.Errorf("make a serving certificate: %w", err)
	}
	if err := o.serving.ApplyToConfig(&generic.Config); err != nil {
		return nil, err
	}
	if err := o.authentication.ApplyTo(&generic.Authentication, generic.SecureServing, generic.OpenAPIConfig); err != nil {
		return nil, err
	}
	if err := apiserver.CheckFrontProxy(&generic.Config); err != nil {
		return nil, err
	}
	generic.Authentication.Authenticator = apiserver.RejectAnonymous(generic.Authentication.Authenticator)
	if err := o.authorization.ApplyTo(&generic.Authorization); err != nil {
		return nil, err
	}
	if err := o.audit.ApplyTo(&generic.Config); err != nil {
		return nil, err
	}
	return &apiserver.Config{
		Generic:                generic,
		Bucket:                 bucket,
		Namespaces:             client.CoreV1().Namespaces(),
		MaxConcurrentDownloads: o.maxConcurrentDownloads,
		MaxDownloadsPerUser:    o.downloadsPerUser(),
		CompressWorkers:        o.compressWorkers,
		StallTimeout:           o.stallTimeout,
		PresignTTL:             o.presignTTL,
		DrainTimeout:           o.drainTimeout,
		StoreGrace:             o.storeGrace,
		WatchInterval:          o.watchInterval,
		RecordCacheSize:        cache,
	}, nil
}

// newClient asks kube-apiserver as often as the generic API server does for its reviews. By default it would be five times a second, and every request for dumps asks for its
// namespace: ranges of all users would queue here.
func newClient(config *rest.Config) (*kubernetes.Clientset, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 200, 400
	return kubernetes.NewForConfig(config)
}
