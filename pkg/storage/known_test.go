// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"fmt"
	"slices"
	"testing"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/storagetest"
)

var nobodys = key(storage.UnknownNamespace, "node-1", storage.UnknownContainer, 0)

func listKnown(t *testing.T, d *storage.Dumps, scope storage.Scope, after string) (names []string) {
	t.Helper()
	for l, err := range d.Known().List(t.Context(), scope, after) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, l.Record.Namespace+"/"+l.Record.Name)
	}
	return names
}

func TestADumpOfNobodyIsStoredAndReadBack(t *testing.T) {
	d := storage.NewDumps(newBucket(t))
	rec := mustCommit(t, d, nobodys, storage.CodecZstd, []byte("core"))
	if rec.Spec.Capture.Identity != v1alpha1.IdentityUnknown || rec.Namespace != storage.UnknownNamespace || rec.Spec.PodName != "node-1" {
		t.Errorf("got %+v", rec)
	}
	if core, err := readCore(d, rec); err != nil || string(core) != "core" {
		t.Errorf("read %q, %v", core, err)
	}
	want := []string{"_unknown/" + nobodys.Name()}
	for _, scope := range []storage.Scope{{}, {Namespace: "_unknown"}, {Namespace: "_unknown", Pod: "node-1"}, {Namespace: "_unknown", Pod: "node-1", Container: "unknown"}} {
		if got := list(t, d, scope, ""); !slices.Equal(got, want) {
			t.Errorf("%+v: listed %q, want %q", scope, got, want)
		}
	}
	for ns, err := range d.Namespaces(t.Context()) {
		t.Errorf("there is a namespace %q, %v", ns, err)
	}
}

func TestADumpOfNobodyIsNotKnown(t *testing.T) {
	b := newBucket(t)
	d := storage.NewDumps(b)
	known := d.Known()
	rec := mustCommit(t, d, nobodys, storage.CodecZstd, []byte("core"))
	write(t, b, key("_unknown", "node-2", "unknown", 0).Record(), []byte("no record"))
	calls := len(b.Calls())
	_, err := known.Get(t.Context(), nobodys)
	storagetest.IsError(t, err, storage.ErrNotFound, nobodys.Record())
	_, err = known.OpenCore(t.Context(), rec)
	storagetest.IsError(t, err, storage.ErrNotFound, nobodys.Name())
	_, err = known.OpenCoreRange(t.Context(), rec, 0, 1)
	storagetest.IsError(t, err, storage.ErrNotFound, nobodys.Name())
	_, err = known.OpenBody(t.Context(), rec, 0, 1)
	storagetest.IsError(t, err, storage.ErrNotFound, nobodys.Name())
	_, err = known.CheckBody(t.Context(), rec)
	storagetest.IsError(t, err, storage.ErrNotFound, nobodys.Name())
	_, err = known.OpenContext(t.Context(), rec)
	storagetest.IsError(t, err, storage.ErrNotFound, nobodys.Name())
	for _, scope := range []storage.Scope{{Namespace: "_unknown"}, {Namespace: "_unknown", Pod: "node-1"}, {Namespace: "_unknown", Pod: "node-1", Container: "unknown"}} {
		if got := listKnown(t, d, scope, ""); len(got) != 0 {
			t.Errorf("%+v: listed %q", scope, got)
		}
	}
	if now := b.Calls(); len(now) != calls {
		t.Errorf("the store was asked: %v", now[calls:])
	}
	if got := listKnown(t, d, storage.Scope{}, ""); len(got) != 0 {
		t.Errorf("listed %q", got)
	}
}

// TestAListOfAllLeavesOutWhatIsNobodysInTheMiddleOfIt: digits sort before "_", letters behind it.
func TestAListOfAllLeavesOutWhatIsNobodysInTheMiddleOfIt(t *testing.T) {
	b := newBucket(t)
	d := storage.NewDumps(b)
	var keys []storage.Key
	var names []string
	for i, ns := range []string{"0first", "9last", "_unknown", "a-first", "unknown"} {
		for n := range 3 {
			k := key(ns, "app", "unknown", n)
			mustCommit(t, d, k, storage.CodecZstd, fmt.Append(nil, i, n))
			if keys = append(keys, k); !k.Unknown() {
				names = append(names, ns+"/"+k.Name())
			}
		}
	}
	if got := listKnown(t, d, storage.Scope{}, ""); !slices.Equal(got, names) {
		t.Errorf("got %q, want %q", got, names)
	}
	for i, k := range keys {
		rest := names[min(i+1, 6):]
		if i > 8 {
			rest = names[i+1-3:]
		}
		if got := listKnown(t, d, storage.Scope{}, k.Record()); !slices.Equal(got, rest) {
			t.Errorf("after %s: got %q, want %q", k.Record(), got, rest)
		}
	}
}
