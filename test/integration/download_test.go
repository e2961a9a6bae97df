// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTheDownloadHasTheSameBytes(t *testing.T) {
	f := &shared
	ns := f.namespace(t, "download")
	alice := f.user(t, "download-alice", ns, "coredump-downloader")
	// No crash is older than its namespace (such a dump would be hidden), so the later ones are in the future.
	now := time.Now()
	old := core{namespace: ns, pod: "web-0", container: "app", seed: 1, size: 3<<20 + 1, time: now}
	recent := core{namespace: ns, pod: "web-0", container: "app", seed: 2, size: 1 << 20, time: now.Add(2 * time.Hour)}
	sidecar := core{namespace: ns, pod: "web-0", container: "sidecar", seed: 3, size: 1 << 20, time: now.Add(2 * time.Hour)}
	for _, c := range []core{old, recent, sidecar} {
		f.dump(t, c)
	}
	sums := func(crashes ...core) []string {
		var s []string
		for _, c := range crashes {
			s = append(s, c.sum())
		}
		slices.Sort(s)
		return s
	}
	for _, test := range []struct {
		name, query, flag string
		want              []string
	}{
		{"all dumps of the pod, gzip by default", "", "-z", sums(old, recent, sidecar)},
		{"one container", "?container=app", "-z", sums(old, recent)},
		{"zstd", "?container=app&format=tar.zst", "--zstd", sums(old, recent)},
		{"no compression", "?container=sidecar&format=tar", "", sums(sidecar)},
		{"since a duration", "?container=app&since=30m", "-z", sums(old, recent)},
		{"since a time", "?since=" + now.Add(time.Hour).UTC().Format(time.RFC3339), "-z", sums(recent, sidecar)},
		{"the latest", "?container=app&latest=1", "-z", sums(recent)},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, path := range []string{dumpPath(ns, "web-0", test.query), strings.Replace(dumpPath(ns, "web-0", test.query), "/dump", "/proxy", 1)} {
				archive, err := f.kubectl(t, alice, "get", "--raw", path)
				if err != nil {
					t.Fatal(err)
				}
				files := untar(t, archive, test.flag)
				if got := values(files); !slices.Equal(got, test.want) {
					t.Errorf("%s: %v, want %v", path, files, test.want)
				}
				for name := range maps.Keys(files) {
					if !strings.HasPrefix(name, "app/core-app-") && !strings.HasPrefix(name, "sidecar/core-app-") {
						t.Errorf("entry %q, want <container>/core-<exe>-<time>-<pid>-<signal>", name)
					}
				}
			}
		})
	}
}

func TestARequestThatCannotBeRightSaysWhatIsAllowed(t *testing.T) {
	f := &shared
	ns := f.namespace(t, "mistakes")
	alice := f.user(t, "mistakes-alice", ns, "coredump-downloader")
	d := f.dump(t, core{namespace: ns, pod: "web-0", container: "app", seed: 1})
	f.dump(t, core{namespace: ns, pod: "web-0", container: "sidecar", seed: 2})
	single := api + "/namespaces/" + ns + "/coredumps/" + d.Name + "/dump"
	for _, test := range []struct {
		name, path string
		want       []string
	}{
		{"unknown pod", dumpPath(ns, "web-9", ""), []string{"NotFound", "web-9"}},
		{"unknown container", dumpPath(ns, "web-0", "?container=ap"), []string{"NotFound", "app", "sidecar"}},
		{"unknown uid", dumpPath(ns, "web-0", "?uid=1234"), []string{"NotFound", "1234"}},
		{"unknown format", dumpPath(ns, "web-0", "?format=zip"), []string{"BadRequest", "zip", "tar.gz", "tar.zst"}},
		{"unknown parameter", dumpPath(ns, "web-0", "?conatiner=app"), []string{"BadRequest", "conatiner", "container"}},
		{"latest that is no number", dumpPath(ns, "web-0", "?latest=all"), []string{"BadRequest", "latest", "all"}},
		{"since that is no time", dumpPath(ns, "web-0", "?since=yesterday"), []string{"BadRequest", "since", "yesterday"}},
		{"container of a single dump", single + "?container=app", []string{"BadRequest", "container", "format"}},
	} {
		_, err := f.kubectl(t, alice, "get", "--raw", test.path)
		if err == nil {
			t.Errorf("%s: kubectl exited 0", test.name)
			continue
		}
		contains(t, err.Error(), test.want...)
	}
}
