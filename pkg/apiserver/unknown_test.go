// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/storagetest"
)

// TestDumpsOfNobodyAreNotServedToAnybody asks by every path there is, as somebody who may do everything.
func TestDumpsOfNobodyAreNotServedToAnybody(t *testing.T) {
	f := start(t)
	first := f.put("0-first", "app", "main", 1, []byte("core")) // sorts before "_"
	f.beside = contextOf(t, "the log of nobody")
	nobodys := f.put(storage.UnknownNamespace, "node-1", storage.UnknownContainer, 2, []byte("core of nobody"))
	f.put(storage.UnknownNamespace, "node-1", storage.UnknownContainer, 3, []byte("core of nobody"))
	f.beside = nil
	last := f.put("shop", "web-0", "app", 4, []byte("core"))
	broken := storage.Key{Namespace: storage.UnknownNamespace, Pod: "node-2", Container: storage.UnknownContainer, ID: nobodys.ID}
	if _, err := f.store.Bucket.Put(t.Context(), broken.Record(), strings.NewReader("{}"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}

	for _, path := range []string{
		"/coredumps", "/coredumps?limit=1", "/coredumps?labelSelector=app", "/coredumps?fieldSelector=spec.nodeName%3Dnode-1", "/coredumps?limit=500&resourceVersion=0",
	} {
		names := []string{}
		for at := path; ; {
			var list v1alpha1.CoreDumpList
			f.get("admin", api+at, &list)
			for _, d := range list.Items {
				names = append(names, d.Namespace+"/"+d.Name)
			}
			if list.RemainingItemCount != nil {
				t.Errorf("%s counts %d more", at, *list.RemainingItemCount)
			}
			if list.Continue == "" {
				break
			}
			at = path + "&continue=" + list.Continue
		}
		if !slices.Equal(names, named(first, last)) {
			t.Errorf("%s: got %q", path, names)
		}
	}
	var pods v1alpha1.CoreDumpEndpointList
	f.get("admin", api+"/coredumpendpoints", &pods)
	if len(pods.Items) != 2 {
		t.Errorf("got %d endpoints", len(pods.Items))
	}

	before := len(f.store.Calls())
	for _, path := range []string{
		"/coredumps?fieldSelector=metadata.namespace%3D_unknown", "/namespaces/_unknown/coredumps",
		"/namespaces/_unknown/coredumps?fieldSelector=spec.podName%3Dnode-1%2Cspec.containerName%3Dunknown",
		"/namespaces/_unknown/coredumps?fieldSelector=metadata.name%3D" + nobodys.Name(), "/namespaces/_unknown/coredumpendpoints",
		"/coredumpendpoints?fieldSelector=metadata.namespace%3D_unknown", "/coredumpendpoints?fieldSelector=metadata.name%3Dnode-1",
		"/namespaces/_unknown/coredumpendpoints?fieldSelector=metadata.name%3Dnode-1", "/coredumps?fieldSelector=spec.podName%3Dnode-1",
	} {
		var list v1alpha1.CoreDumpList
		if f.get("admin", api+path, &list); len(list.Items) != 0 {
			t.Errorf("%s has %d items", path, len(list.Items))
		}
	}
	for _, k := range []storage.Key{nobodys, broken, {Namespace: storage.UnknownNamespace, Pod: "node-9", Container: storage.UnknownContainer, ID: nobodys.ID}} {
		for _, path := range []string{"/coredumps/" + k.Name(), "/coredumpendpoints/" + k.Pod} {
			for _, sub := range []string{"", "/dump", "/proxy"} {
				f.refused("admin", api+"/namespaces/_unknown"+path+sub, http.StatusNotFound)
			}
		}
		f.refused("admin", api+"/namespaces/shop/coredumps/"+k.Name()+"/dump", http.StatusNotFound)
	}
	for _, c := range f.store.Calls()[before:] {
		if c.Op != storagetest.OpList && strings.HasPrefix(c.Key, storage.UnknownNamespace) {
			t.Errorf("the store was asked for it: %v", c)
		}
	}
}

// TestDumpsOfNobodyAreNotWatched: should a watch be offered one day, this fails, and so may nothing else.
func TestDumpsOfNobodyAreNotWatched(t *testing.T) {
	f := start(t)
	f.put(storage.UnknownNamespace, "node-1", storage.UnknownContainer, 2, []byte("core of nobody"))
	for _, path := range []string{"/coredumps?watch=true&timeoutSeconds=1", "/namespaces/_unknown/coredumps?watch=true&timeoutSeconds=1"} {
		if _, _, data := f.try("admin", "GET", api+path); strings.Contains(string(data), "node-1") {
			t.Errorf("%s: got %s", path, data)
		}
	}
}
