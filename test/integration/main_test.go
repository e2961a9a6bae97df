// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build integration

// Package integration proves the promises of the project from outside: real kubectl, tar and sha256sum against a real
// kube-apiserver and a real S3 server, with our programs as they are shipped and the roles of artifacts/base. "make test-integration" sets the environment up.
package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"example.io/coredump/test/cluster"
)

// patience bounds every wait of this suite. It is no assertion: on an idle machine nothing takes a tenth of it.
const patience = 2 * time.Minute

// fixture is what most tests share: one control plane, one store, one apiserver, one nodehandler.
type fixture struct {
	dir     string
	repo    string
	bin     string
	assets  string
	s3      string
	cluster *cluster.Cluster
	store   *cluster.Store
	system  *cluster.System
	handler *cluster.NodeHandler
}

var shared fixture

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "coredump-test-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	defer shared.stop()
	if err := shared.start(dir); err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		return 1
	}
	return m.Run()
}

// start brings everything up, in directories below dir.
func (f *fixture) start(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.environment(dir); err != nil {
		return err
	}
	return f.up(ctx, cluster.Options{Dir: dir, Assets: f.assets})
}

func (f *fixture) environment(dir string) (err error) {
	f.dir, f.assets, f.s3 = dir, os.Getenv("COREDUMP_CONTROLPLANE"), os.Getenv("COREDUMP_S3SERVER")
	if f.assets == "" || f.s3 == "" || os.Getenv("COREDUMP_BIN") == "" {
		return fmt.Errorf("COREDUMP_BIN, COREDUMP_CONTROLPLANE and COREDUMP_S3SERVER must be set; make test-integration sets them")
	}
	if f.bin, err = filepath.Abs(os.Getenv("COREDUMP_BIN")); err != nil {
		return err
	}
	f.repo, err = filepath.Abs(filepath.Join("..", ".."))
	return err
}

func (f *fixture) up(ctx context.Context, o cluster.Options) (err error) {
	if f.cluster, err = cluster.Start(ctx, o); err != nil {
		return err
	}
	policy := filepath.Join(f.repo, "artifacts", "s3", "bucket-policy.json")
	if f.store, err = cluster.StartStore(ctx, filepath.Join(o.Dir, "s3"), f.s3, policy); err != nil {
		return err
	}
	if f.system, err = cluster.Install(ctx, f.cluster, f.store, f.bin, f.repo); err != nil {
		return err
	}
	if _, err = f.system.StartAPIServer(ctx); err != nil {
		return err
	}
	watched := filepath.Join(o.Dir, "dumps")
	if err = os.MkdirAll(watched, 0o755); err != nil {
		return err
	}
	f.handler, err = f.system.StartNodeHandler(ctx, watched, "--settle=1s")
	return err
}

func (f *fixture) stop() {
	if f.system != nil {
		f.system.Stop()
	}
	if f.store != nil {
		f.store.Kill()
	}
	if f.cluster != nil {
		f.cluster.Stop()
	}
}

// another brings up a fixture of its own for a test that breaks things.
func another(t *testing.T, o cluster.Options) *fixture {
	t.Helper()
	f := &fixture{}
	t.Cleanup(f.stop)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir, err := os.MkdirTemp("", "coredump-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	o.Dir, o.Assets = dir, shared.assets
	if err := f.environment(dir); err != nil {
		t.Fatal(err)
	}
	if err := f.up(ctx, o); err != nil {
		t.Fatal(err)
	}
	return f
}
