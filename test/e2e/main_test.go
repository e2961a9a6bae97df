// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package e2e proves the promises about nodes: real pods on a real kubelet crash on the real kernel, the node handler runs as the DaemonSet of artifacts/, and gdb
// opens what kubectl downloads. "make e2e" sets the environment up.
//
// All of it is in a network namespace of its own, and core_pattern, which is one per kernel, is put back whatever happens (cluster.Isolated).
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"example.io/coredump/test/cluster"
)

// patience bounds every wait of this suite. It is no assertion: on an idle machine nothing takes a tenth of it.
const patience = time.Minute

// dir is where everything of a run is. The name is short, for sockets' sake, and fixed, so that a run finds what an earlier one left.
const dir = "/tmp/coredump-test-e2e"

// fixture is what the tests share: one cluster with one node, one store, our programs deployed.
type fixture struct {
	repo, bin  string
	cluster    *cluster.Cluster
	node       *cluster.Node
	store      *cluster.Store
	deployment *cluster.Deployment
	// before are the host's settings as they were before the node handler changed any, beforeFiles what was in its places.
	before      string
	beforeFiles []string
}

var shared fixture

func TestMain(m *testing.M) {
	if err := cluster.Unfit(); err != nil {
		skip(err)
	}
	code, err := cluster.Isolated(dir, func() int { return run(m) })
	if errors.Is(err, cluster.ErrInUse) {
		skip(err)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
	}
	os.Exit(code)
}

// skip says loudly that nothing is tested, and why; where it is required, that is a failure.
func skip(why error) {
	fmt.Fprintf(os.Stderr, "=== SKIPPED, nothing of the node is tested here: %v ===\n", why)
	if os.Getenv("COREDUMP_E2E") == "required" {
		os.Exit(1)
	}
	os.Exit(0)
}

func run(m *testing.M) int {
	defer shared.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	if err := shared.start(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return m.Run()
}

func (f *fixture) start(ctx context.Context) (err error) {
	var missing []string
	env := func(name string) string {
		value := os.Getenv(name)
		if value == "" {
			missing = append(missing, name)
		}
		return value
	}
	f.bin = env("COREDUMP_BIN")
	controlplane, s3 := env("COREDUMP_CONTROLPLANE"), env("COREDUMP_S3SERVER")
	assets := cluster.NodeAssets{Node: env("COREDUMP_NODE"), Containerd: env("COREDUMP_CONTAINERD"), Runc: env("COREDUMP_RUNC"), CNI: env("COREDUMP_CNI")}
	if missing != nil {
		return fmt.Errorf("%v must be set; make e2e sets them", missing)
	}
	if f.repo, err = filepath.Abs(filepath.Join("..", "..")); err != nil {
		return err
	}
	began := time.Now()
	step := func(what string) {
		fmt.Fprintf(os.Stderr, "%6.1fs %s\n", time.Since(began).Seconds(), what)
	}
	if f.cluster, err = cluster.Start(ctx, cluster.Options{Dir: dir, Assets: controlplane, Node: true}); err != nil {
		return err
	}
	step("the control plane is ready")
	if f.node, err = cluster.StartNode(ctx, f.cluster, assets); err != nil {
		return err
	}
	step("the node is ready")
	policy := filepath.Join(f.repo, "artifacts", "s3", "bucket-policy.json")
	if f.store, err = cluster.StartStoreAt(ctx, cluster.NodeAddress, filepath.Join(dir, "s3"), s3, policy); err != nil {
		return err
	}
	if err = f.crashers(ctx); err != nil {
		return err
	}
	step("images are loaded")
	if err = errors.Join(os.MkdirAll(hostCores, 0o755), setPattern(hostPattern)); err != nil { // whatever was there
		return err
	}
	f.before, f.beforeFiles = hostSettings(), hostFiles()
	f.deployment, err = cluster.Deploy(ctx, f.node, f.store, f.bin, f.repo, pipe.overlay())
	step("coredump is deployed")
	return err
}

func (f *fixture) stop() {
	if f.store != nil {
		f.store.Kill()
	}
	if f.cluster != nil {
		f.cluster.Stop()
	}
}
