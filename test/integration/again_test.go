// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"slices"
	"testing"
	"time"
)

func TestADeletedPodsDumpIsFoundByUID(t *testing.T) {
	f := &shared
	ns := f.namespace(t, "again")
	alice := f.user(t, "again-alice", ns, "coredump-downloader")

	first := core{namespace: ns, pod: "web-0", container: "app", seed: 1, size: 1 << 20}
	firstUID := f.pod(t, ns, "web-0", "app")
	f.dump(t, first)
	f.admin(t, "delete", "pod", "-n", ns, "web-0", "--force", "--grace-period=0")

	second := core{namespace: ns, pod: "web-0", container: "app", seed: 2, size: 1 << 20, time: time.Now().Add(time.Minute)}
	secondUID := f.pod(t, ns, "web-0", "app")
	f.dump(t, second)
	f.admin(t, "delete", "pod", "-n", ns, "web-0", "--force", "--grace-period=0")

	if firstUID == secondUID {
		t.Fatalf("both pods have the UID %s", firstUID)
	}
	for uid, want := range map[string]core{firstUID: first, secondUID: second} {
		archive, err := f.kubectl(t, alice, "get", "--raw", dumpPath(ns, "web-0", "?container=app&uid="+uid))
		if err != nil {
			t.Fatal(err)
		}
		if got := values(untar(t, archive, "-z")); !slices.Equal(got, []string{want.sum()}) {
			t.Errorf("uid %s: %v, want %s alone", uid, got, want.sum())
		}
	}
	out, err := f.kubectl(t, alice, "get", "coredumpendpoint", "-n", ns, "web-0", "-o", "jsonpath={.status.podUIDs}")
	if err != nil {
		t.Fatal(err)
	}
	if want := `["` + secondUID + `","` + firstUID + `"]`; out != want {
		t.Errorf("podUIDs %s, want the latest first: %s", out, want)
	}
}

func TestANamespaceMadeAgainDoesNotShowTheDumpsOfTheEarlierOne(t *testing.T) {
	f := &shared
	if !f.cluster.HasControllers() {
		t.Fatal("no kube-controller-manager among the assets: nothing deletes namespaces")
	}
	ns := f.namespace(t, "reborn")
	alice := f.user(t, "reborn-alice", ns, "coredump-downloader")
	c := core{namespace: ns, pod: "web-0", container: "app", seed: 1}
	d := f.dump(t, c)
	if got := f.names(t, alice, "-n", ns); len(got) != 1 {
		t.Fatalf("alice sees %v, want her dump", got)
	}
	f.admin(t, "delete", "namespace", ns, "--wait", "--timeout=120s")

	t.Run("while it does not exist only cluster-wide rights reach them", func(t *testing.T) {
		_, err := f.kubectl(t, alice, "get", "coredumps", "-n", ns)
		refused(t, err, "Forbidden")
		if got := f.names(t, f.cluster.Admin, "-n", ns); len(got) != 1 {
			t.Errorf("the administrator sees %v, want the dump", got)
		}
	})
	f.admin(t, "create", "namespace", ns)
	bob := f.user(t, "reborn-bob", ns, "coredump-downloader")
	t.Run("the next owner sees nothing", func(t *testing.T) {
		if got := f.names(t, bob, "-n", ns); len(got) != 0 {
			t.Errorf("bob lists %v, want nothing", got)
		}
		for _, path := range []string{
			dumpPath(ns, "web-0", ""), api + "/namespaces/" + ns + "/coredumps/" + d.Name,
			api + "/namespaces/" + ns + "/coredumps/" + d.Name + "/dump", api + "/namespaces/" + ns + "/coredumps/" + d.Name + "/proxy",
			api + "/namespaces/" + ns + "/coredumpendpoints/web-0",
		} {
			_, err := f.kubectl(t, bob, "get", "--raw", path)
			refused(t, err, "NotFound")
		}
	})
	t.Run("the administrator still does", func(t *testing.T) {
		archive, err := f.kubectl(t, f.cluster.Admin, "get", "--raw", dumpPath(ns, "web-0", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := values(untar(t, archive, "-z")); !slices.Equal(got, []string{c.sum()}) {
			t.Errorf("got %v, want %s", got, c.sum())
		}
	})
}
