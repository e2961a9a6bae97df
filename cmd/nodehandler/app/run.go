// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/tools/events"
	componentversion "k8s.io/component-base/version"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"example.io/coredump/pkg/dumpdir"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/buckets"
	"example.io/coredump/pkg/tell"
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
	tell.RegisterMetrics()
	registerMetrics()
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil { // the credentials of the store are in its memory
		return fmt.Errorf("make sure that no dump is made of this program: %w", err)
	}
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
	teller, stop, err := c.teller(ctx, who)
	if err != nil {
		return err
	}
	defer stop()
	k, err := c.newKernel(ctx, who, teller)
	if err != nil {
		return err
	}
	defer k.close()
	klog.FromContext(ctx).Info("Starting", "version", version(), "capture", c.kernel.capture, "directory", c.dir, "node", who.place.NodeName, "cluster", who.place.ClusterName)
	h := &health{store: bucket, sources: []scanner{watcher, k.source}, pool: pool, synced: who.synced, stopping: ctx.Done(), away: teller.StoreUnavailable, clock: clock.RealClock{}}
	return c.loops(ctx, root, h, who, pool, k, watcher, k.source)
}

// teller makes who tells of dumps. stop ends the delivery of Events.
func (c *config) teller(ctx context.Context, who *identifier) (t *tell.Teller, stop func(), err error) {
	ctx, stop = context.WithCancel(context.WithoutCancel(ctx))
	var recorder events.EventRecorder
	if c.kernel.events && who.events != nil {
		if recorder, err = tell.NewRecorder(ctx, who.events); err != nil {
			stop()
			return nil, nil, err
		}
	}
	return tell.New(recorder, who.place.NodeName, clock.RealClock{}), stop, nil
}

// loops runs what runs. What serves the uploads outlives them.
func (c *config) loops(ctx context.Context, root *dumpdir.Root, h *health, who *identifier, pool *upload.Pool, k *kernel, sources ...upload.Source) error {
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
		uploads.Go(func() error { return k.run(ctx) })
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
