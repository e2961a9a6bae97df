// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"example.io/coredump/test/cluster"
)

func TestAStoreThatIsAwayHarmsNobodyElse(t *testing.T) {
	f := another(t, cluster.Options{})
	ns := f.namespace(t, "outage")
	alice := f.user(t, "alice", ns, "coredump-downloader")
	f.dump(t, core{namespace: ns, pod: "web-0", container: "app", seed: 1})
	f.store.Kill()

	t.Run("requests say that the store is away, and when to come again", func(t *testing.T) {
		for _, path := range []string{api + "/namespaces/" + ns + "/coredumps", api + "/namespaces/" + ns + "/coredumpendpoints", dumpPath(ns, "web-0", "")} {
			_, err := f.kubectl(t, alice, "get", "--raw", path)
			refused(t, err, "ServiceUnavailable")
		}
	})
	t.Run("discovery goes on, so a namespace can be deleted", func(t *testing.T) {
		if !f.cluster.HasControllers() {
			t.Fatal("no kube-controller-manager among the assets: nothing deletes namespaces")
		}
		f.admin(t, "create", "namespace", "short-lived")
		f.admin(t, "delete", "namespace", "short-lived", "--wait", "--timeout=60s")
		f.admin(t, "api-resources", "--api-group=coredump.example.io")
	})
	late := core{namespace: ns, pod: "web-1", container: "app", seed: 2, size: 1 << 20}
	file := late.file(t, f.handler.Dir)
	t.Run("a dump waits on the node, also through a restart of the node handler", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		err := cluster.Poll(ctx, func(context.Context) error {
			return logged(f.handler.Process, "web-1")
		})
		if err != nil {
			t.Fatalf("nodehandler did not say that the upload failed: %v", err)
		}
		f.handler.Kill()
		if _, err := os.Stat(file); err != nil {
			t.Fatalf("the dump is gone from the node while the store is away: %v", err)
		}
	})
	if err := f.store.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	handler, err := f.system.StartNodeHandler(ctx, f.handler.Dir, "--settle=1s")
	if err != nil {
		t.Fatal(err)
	}
	f.handler = handler
	f.awaitDump(t, late)
	gone(t, file)
}

// logged tells whether a program has written the text.
func logged(p *cluster.Process, text string) error {
	data, err := os.ReadFile(p.Log)
	if err == nil && !strings.Contains(string(data), text) {
		err = os.ErrNotExist
	}
	return err
}

// gone waits until the local file is deleted.
func gone(t *testing.T, file string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := cluster.Poll(ctx, func(context.Context) error {
		if _, err := os.Lstat(file); os.IsNotExist(err) {
			return nil
		}
		return os.ErrExist
	})
	if err != nil {
		t.Errorf("%s: still there after its upload: %v", file, err)
	}
}

func TestTheServerComesUpWithoutTheStore(t *testing.T) {
	f := another(t, cluster.Options{})
	f.system.Stop()
	f.store.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := f.system.StartAPIServer(ctx); err != nil {
		t.Fatalf("discovery does not answer while the store is away: %v", err)
	}
}
