// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clientset "example.io/coredump/pkg/generated/clientset/versioned"
)

func TestKubectlDiscoversListsExplainsAndDescribes(t *testing.T) {
	f := &shared
	ns := f.namespace(t, "list")
	alice := f.user(t, "list-alice", ns, "coredump-viewer")
	uid := f.pod(t, ns, "web-0", "app")
	first := f.dump(t, core{namespace: ns, pod: "web-0", container: "app", seed: 1, size: 1 << 20})
	f.dump(t, core{namespace: ns, pod: "web-0", container: "sidecar", seed: 2, size: 1 << 20})
	f.dump(t, core{namespace: ns, pod: "db-0", container: "app", seed: 3, size: 2 << 20})

	t.Run("discovery lists both resources with their verbs", func(t *testing.T) {
		out, err := f.kubectl(t, alice, "api-resources", "--api-group=coredump.example.io", "-o", "wide")
		if err != nil {
			t.Fatal(err)
		}
		contains(t, out, "coredumps", "coredumpendpoints", "CoreDump", "CoreDumpEndpoint", "get,list,watch")
		if strings.Contains(out, "delete") {
			t.Errorf("verb delete is offered: a dying namespace would take its dumps along\n%s", out)
		}
	})
	t.Run("the table names what a developer looks for", func(t *testing.T) {
		out, err := f.kubectl(t, alice, "get", "coredumps", "-n", ns)
		if err != nil {
			t.Fatal(err)
		}
		header, _, _ := strings.Cut(out, "\n")
		if got := strings.Fields(header); !slices.Equal(got, []string{"NAME", "POD", "CONTAINER", "EXECUTABLE", "SIGNAL", "SIZE", "AGE"}) {
			t.Errorf("columns %v", got)
		}
		contains(t, out, "web-0", "sidecar", "db-0", "SIGSEGV", first.Name)
		if n := strings.Count(strings.TrimSpace(out), "\n"); n != 3 {
			t.Errorf("%d rows, want 3\n%s", n, out)
		}
	})
	t.Run("wide adds node, stored size, truncation and pod UID", func(t *testing.T) {
		out, err := f.kubectl(t, alice, "get", "coredumps", "-n", ns, "-o", "wide")
		if err != nil {
			t.Fatal(err)
		}
		contains(t, out, "NODE", "STORED", "TRUNCATED", "POD-UID", "node-1", uid)
	})
	t.Run("endpoints are tables too", func(t *testing.T) {
		out, err := f.kubectl(t, alice, "get", "coredumpendpoints", "-n", ns)
		if err != nil {
			t.Fatal(err)
		}
		contains(t, out, "web-0", "db-0", "app,sidecar")
	})
	t.Run("explain knows the fields", func(t *testing.T) {
		for field, want := range map[string]string{"coredumps.spec.podUID": "UID of that pod", "coredumps.status.sha256": "SHA-256", "coredumpendpoints.status.containers": "containers that have dumps"} {
			out, err := f.kubectl(t, alice, "explain", field)
			if err != nil {
				t.Fatal(err)
			}
			contains(t, out, want)
		}
	})
	t.Run("describe shows the facts", func(t *testing.T) {
		out, err := f.kubectl(t, alice, "describe", "coredump", "-n", ns, first.Name)
		if err != nil {
			t.Fatal(err)
		}
		contains(t, out, "SIGSEGV", "node-1", uid, first.Status.SHA256, "claimed")
	})
	t.Run("label selectors match the labels of the pod", func(t *testing.T) {
		if got := f.names(t, alice, "-n", ns, "-l", "app=web-0"); len(got) != 2 {
			t.Errorf("got %v, want both dumps of the pod web-0", got)
		}
		if got := f.names(t, alice, "-n", ns, "-l", "app=nothing"); len(got) != 0 {
			t.Errorf("got %v, want none", got)
		}
	})
	t.Run("field selectors", func(t *testing.T) {
		for selector, want := range map[string]int{
			"spec.podName=web-0": 2, "spec.podName!=web-0": 1, "spec.containerName=app": 2, "spec.nodeName=node-1": 3,
			"spec.process.signalName=SIGSEGV": 3, "spec.signal=SIGABRT": 0, "metadata.name=" + first.Name: 1, "spec.podName=web": 0,
		} {
			if got := f.names(t, alice, "-n", ns, "--field-selector", selector); len(got) != want {
				t.Errorf("%s: %d dumps, want %d", selector, len(got), want)
			}
		}
		_, err := f.kubectl(t, alice, "get", "coredumps", "-n", ns, "--field-selector", "spec.colour=red")
		refused(t, err, "spec.colour", "spec.podName")
	})
	t.Run("watch is refused or works, but does not hang", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, _ = f.cluster.Kubectl(ctx, alice, "get", "coredumps", "-n", ns, "--watch", "--request-timeout=2s")
		if ctx.Err() != nil {
			t.Error("kubectl get --watch --request-timeout=2s did not end")
		}
	})
}

func TestPagesPutTogetherAreTheWholeList(t *testing.T) {
	f := &shared
	ns := f.namespace(t, "pages")
	alice := f.user(t, "pages-alice", ns, "coredump-viewer")
	for i := range uint64(7) {
		f.dump(t, core{namespace: ns, pod: fmt.Sprintf("web-%d", i%3), container: "app", seed: i})
	}
	whole := f.names(t, alice, "-n", ns)
	if len(whole) != 7 {
		t.Fatalf("the list has %d dumps, want 7", len(whole))
	}
	config, err := f.cluster.Config(alice)
	if err != nil {
		t.Fatal(err)
	}
	client, err := clientset.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	for limit := int64(1); limit <= 8; limit++ {
		var paged []string
		options := metav1.ListOptions{Limit: limit}
		for {
			page, err := client.CoredumpV1alpha1().CoreDumps(ns).List(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(page.Items)) > limit {
				t.Errorf("a page of %d, limit %d", len(page.Items), limit)
			}
			for _, d := range page.Items {
				paged = append(paged, d.Name)
			}
			if page.Continue == "" {
				break
			}
			options.Continue = page.Continue
		}
		if !slices.Equal(paged, whole) {
			t.Errorf("limit %d: %v, want %v", limit, paged, whole)
		}
	}
	// kubectl pages by itself.
	if got := f.names(t, alice, "-n", ns, "--chunk-size=2"); !slices.Equal(got, whole) {
		t.Errorf("kubectl --chunk-size=2: %v, want %v", got, whole)
	}
}
