// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sync/errgroup"
	componentversion "k8s.io/component-base/version"
	"k8s.io/klog/v2"

	"example.io/coredump/pkg/dumpdir"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/buckets"
	"example.io/coredump/pkg/upload"
)

// gcPercent is how much garbage there may be beside what lives. Nearly all that lives are buffers that are used again and again, so
// there is little garbage, collecting it costs next to nothing, and memory stays near the bound in --help.
const gcPercent = 20

func version() string { return componentversion.Get().GitVersion }

// run puts the program together and runs it until ctx ends.
func (c *config) run(ctx context.Context) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	dumpdir.RegisterMetrics()
	upload.RegisterMetrics()
	registerMetrics()
	bucket, err := buckets.Open(ctx, c.store)
	if err != nil {
		return fmt.Errorf("--store: %w", err)
	}
	who, err := c.identifier()
	if err != nil {
		return err
	}
	root, err := dumpdir.OpenRoot(c.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	watcher := dumpdir.NewWatcher(root, dumpdir.Options{
		Rules:  dumpdir.Rules{Template: c.template, Defaults: c.defaults, MaxSize: c.maxSize, NodeName: who.place.NodeName, Version: version()},
		Settle: c.settle,
		Rescan: c.rescan,
	})
	pool := upload.New(storage.NewDumps(bucket), who, upload.Options{
		Workers: c.workers, Codec: c.codec, CompressionWorkers: c.compressionWorkers, MaxSize: c.maxSize, MaxBackoff: c.maxBackoff, Grace: c.grace,
	})
	klog.FromContext(ctx).Info("Starting", "version", version(), "directory", c.dir, "node", who.place.NodeName, "cluster", who.place.ClusterName)
	h := &health{store: bucket, watcher: watcher, pool: pool, synced: who.synced, stopping: ctx.Done()}
	return c.loops(ctx, root, h, who, pool, watcher)
}

// loops runs what runs. What serves the uploads outlives them.
func (c *config) loops(ctx context.Context, root *dumpdir.Root, h *health, who *identifier, pool *upload.Pool, sources ...upload.Source) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	services, background := errgroup.WithContext(background)
	work, ctx := errgroup.WithContext(ctx)

	serve, err := c.openListener(h)
	if err != nil {
		return err
	}
	services.Go(func() error { return serve(background) })
	services.Go(func() error { return who.run(background) })
	services.Go(func() error { return h.watchStore(background) })
	services.Go(func() error { return c.keepCheckFile(background, h) })
	work.Go(func() error { // what ends a service ends the work
		select {
		case <-background.Done():
			return context.Cause(background)
		case <-ctx.Done():
			return nil
		}
	})
	work.Go(func() error {
		if err := root.Lock(ctx); err != nil {
			return err
		}
		uploads, ctx := errgroup.WithContext(ctx)
		uploads.Go(func() error { return pool.Run(ctx) })
		for _, source := range sources {
			uploads.Go(func() error { return source.Run(ctx, pool.Offer) })
		}
		return uploads.Wait()
	})
	err = work.Wait()
	stop()
	if serviceErr := services.Wait(); err == nil {
		err = serviceErr
	}
	klog.FromContext(ctx).Info("Stopped")
	return err
}
