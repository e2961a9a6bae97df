// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.io/coredump/test/cluster"
)

func TestGCPrunesWhatItIsToldAndNothingElse(t *testing.T) {
	f := another(t, cluster.Options{})
	ns := f.namespace(t, "prune")
	old := f.dump(t, core{namespace: ns, pod: "web-0", container: "app", seed: 1, time: time.Now().Add(-48 * time.Hour)})
	recent := f.dump(t, core{namespace: ns, pod: "web-0", container: "app", seed: 2})
	foreign := filepath.Join(f.store.Data(), "somebody-elses.txt")
	shell(t, f.store.Data(), "", "mkdir -p reports/2020 && echo kept > reports/2020/q1.json && echo kept > somebody-elses.txt")

	out, err := f.system.GC(t.Context(), "--max-age=24h", "--dry-run")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	contains(t, out, "web-0", old.Name[strings.LastIndex(old.Name, ".")+1:])
	if got := f.names(t, f.cluster.Admin, "-n", ns); len(got) != 2 {
		t.Fatalf("after a dry run there are %v, want both", got)
	}
	if out, err = f.system.GC(t.Context(), "--max-age=24h"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	contains(t, out, "[coredump]")
	if got := f.names(t, f.cluster.Admin, "-n", ns); !slices.Equal(got, []string{recent.Name}) {
		t.Errorf("left: %v, want %s", got, recent.Name)
	}
	for _, file := range []string{foreign, filepath.Join(f.store.Data(), "reports", "2020", "q1.json")} {
		if _, err := os.Stat(file); err != nil {
			t.Errorf("a key outside of the layout is gone: %v", err)
		}
	}
	left, _ := filepath.Glob(filepath.Join(f.store.Data(), ns, "web-0", "app", "*"))
	if len(left) != 2 {
		t.Errorf("objects left: %v, want the record and the body of the recent dump", left)
	}
}
