// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	clientset "example.io/coredump/pkg/generated/clientset/versioned"
	"example.io/coredump/pkg/generated/informers/externalversions"
)

// A developer waits for the next crash.
func TestKubectlWatchesAndInformersSeeANewDump(t *testing.T) {
	f := &shared
	ns := f.namespace(t, "watch")
	alice := f.user(t, "watch-alice", ns, "coredump-viewer")
	f.pod(t, ns, "web-0", "app")
	there := f.dump(t, core{namespace: ns, pod: "web-0", container: "app", seed: 1, size: 1 << 20})

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	watched := func(args ...string) <-chan string {
		t.Helper()
		cmd := f.cluster.Command(ctx, alice, append(args, "-n", ns, "--watch", "--no-headers", "--output-watch-events")...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = t.Output()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cancel()
			_ = cmd.Wait() // it was ended
		})
		return lines(out)
	}
	dumps, pods := watched("get", "coredumps"), watched("get", "coredumpendpoints")

	config, err := f.cluster.Config(alice)
	if err != nil {
		t.Fatal(err)
	}
	client, err := clientset.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	factory := externalversions.NewSharedInformerFactoryWithOptions(client, 0, externalversions.WithNamespace(ns))
	lister := factory.Coredump().V1alpha1().CoreDumps().Lister()
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel()
	factory.WaitForCacheSync(ctx.Done())

	wants := func(from <-chan string, event, name string) {
		t.Helper()
		select {
		case line := <-from:
			if words := strings.Fields(line); len(words) < 2 || words[0] != event || words[1] != name {
				t.Fatalf("got %q, want %s %s", line, event, name)
			}
		case <-ctx.Done():
			t.Fatalf("%s %s never came", event, name)
		}
	}
	wants(dumps, "ADDED", there.Name)
	wants(pods, "ADDED", "web-0")
	next := f.dump(t, core{namespace: ns, pod: "web-0", container: "app", seed: 2, size: 1 << 20})
	wants(dumps, "ADDED", next.Name)
	wants(pods, "MODIFIED", "web-0")
	for {
		all, err := lister.List(labels.Everything())
		if err != nil {
			t.Fatal(err)
		}
		if len(all) == 2 {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the informer has %d dumps", len(all))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// lines sends the lines of r until it ends.
func lines(r io.Reader) <-chan string {
	all := make(chan string, 100)
	go func() {
		defer close(all)
		for s := bufio.NewScanner(r); s.Scan(); {
			all <- s.Text()
		}
	}()
	return all
}
