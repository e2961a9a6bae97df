// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"example.io/coredump/test/cluster"
)

// control is a control plane with our programs installed, none of which runs.
type control struct {
	*cluster.Cluster
	system *cluster.System
}

// startControl starts a control plane. A requestTimeout of 0 is kube-apiserver's default. The caller stops it, also after an error.
func (b *bench) startControl(ctx context.Context, requestTimeout time.Duration) (*control, error) {
	c := &control{}
	dir := filepath.Join(b.dir, "controlplane")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return c, err
	}
	repo, err := os.Getwd()
	if err != nil {
		return c, err
	}
	if c.Cluster, err = cluster.Start(ctx, cluster.Options{Dir: dir, Assets: b.assets, RequestTimeout: requestTimeout}); err != nil {
		return c, err
	}
	c.system, err = cluster.Install(ctx, c.Cluster, b.store, b.bin, repo)
	return c, err
}

func (c *control) stop() {
	if c.system != nil {
		c.system.Stop()
	}
	if c.Cluster != nil {
		c.Cluster.Stop()
		os.RemoveAll(c.Dir)
	}
}
