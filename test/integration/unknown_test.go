// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.io/coredump/pkg/storage"
	"example.io/coredump/test/cluster"
)

// TestDumpsOfNobodyAreInTheBucketAlone asks as the cluster's administrator, through kube-apiserver, and lets gc do its work on them.
func TestDumpsOfNobodyAreInTheBucketAlone(t *testing.T) {
	f := another(t, cluster.Options{})
	ns := f.namespace(t, "somebody")
	f.dump(t, core{namespace: ns, pod: "web-0", container: "app", seed: 1})
	k := storage.Key{Namespace: storage.UnknownNamespace, Pod: "node-1", Container: storage.UnknownContainer, ID: storage.NewID(time.Now().Add(-48*time.Hour), "nobody")}
	record := fmt.Sprintf(`{"apiVersion": "coredump.example.io/v1alpha1", "kind": "CoreDump", "metadata": {"name": %q, "namespace": %q},
		"spec": {"podName": %q, "containerName": %q, "capture": {"identity": "unknown"}, "process": {"time": null}},
		"status": {"size": 4, "storedSize": 4, "sha256": %q}}`, k.Name(), k.Namespace, k.Pod, k.Container, strings.Repeat("0", 64))
	for key, data := range map[string]string{k.Body(storage.CodecNone): "core", k.Record(): record} {
		file := filepath.Join(f.store.Data(), key)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.names(t, f.cluster.Admin, "--all-namespaces"); len(got) != 1 || strings.Contains(got[0], "node-1") {
		t.Errorf("the administrator sees %q", got)
	}
	for _, path := range []string{
		"/namespaces/_unknown/coredumps/" + k.Name(), "/namespaces/_unknown/coredumps/" + k.Name() + "/proxy", "/namespaces/_unknown/coredumpendpoints/node-1/dump",
	} {
		if out, err := f.kubectl(t, f.cluster.Admin, "get", "--raw", api+path); err == nil {
			t.Errorf("%s: got %.200q", path, out)
		}
	}
	out, err := f.system.GC(t.Context(), "--gone-namespace-grace=1h", "--max-age=720h", "--dry-run")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(out, k.ID) {
		t.Errorf("gc takes it for a dump of a namespace that is gone:\n%s", out)
	}
	if out, err := f.system.GC(t.Context(), "--max-age=24h"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(f.store.Data(), k.Record())); !os.IsNotExist(err) {
		t.Errorf("gc leaves the record: %v", err)
	}
}
