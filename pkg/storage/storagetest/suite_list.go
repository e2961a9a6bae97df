// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"example.io/coredump/pkg/storage"
)

// tree has keys whose order by bytes is not that of a walk through directories by name ('-' and '.' sort before '/'), and names that are
// prefixes of others.
var tree = []string{
	"a!", "a-b/x", "a.b/x", "a/b-c/x", "a/b/x", "a/b/y", "a/b0/x", "a/c", "a0", "aa/x", "b/x/y/z", "ns-2/p/c/1", "ns/p-1/c/1", "ns/p.1/c/1", "ns/p/c/1", "ns/p/c/2",
	"ns/p0/c/1", "ns2/p/c/1", "z",
}

func listOrder(t *testing.T, b storage.Bucket) {
	plant(t, b)
	got := keys(collect(b.List(t.Context(), "", ""))(t))
	if !slices.Equal(got, tree) {
		t.Errorf("got  %q\nwant %q", got, tree)
	}
}

func listRanges(t *testing.T, b storage.Bucket) {
	plant(t, b)
	starts := append(slices.Clone(tree), "", "a", "a/", "a-", "a/b", "a/b/", "a/b/xx", "ns", "ns/", "ns0", "ns/p/c/1x", "zz", "~")
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/b/", "a-", "n", "ns", "ns/", "ns/p", "ns/p/", "ns/p/c/1", "nsx", "x/", "z", "a/b/x/"} {
		for _, after := range starts {
			var want []string
			for _, key := range tree {
				if strings.HasPrefix(key, prefix) && key > after {
					want = append(want, key)
				}
			}
			if got := keys(collect(b.List(t.Context(), prefix, after))(t)); !slices.Equal(got, want) {
				t.Errorf("prefix %q after %q: got %q, want %q", prefix, after, got, want)
			}
		}
	}
}

func listPages(t *testing.T, b storage.Bucket) {
	const n = 1005 // a page of S3 has 1000
	want := make([]string, n)
	for i := range want {
		want[i] = fmt.Sprintf("ns/pod-%04d/x", i)
	}
	parallel(8, func(w int) {
		for i := w; i < n; i += 8 {
			if _, err := b.Put(t.Context(), want[i], strings.NewReader("x"), storage.PutOptions{MaxSize: 1}); err != nil {
				t.Error(err)
			}
		}
	})
	if got := keys(collect(b.List(t.Context(), "ns/", ""))(t)); !slices.Equal(got, want) {
		t.Errorf("got %d keys, want %d", len(got), n)
	}
	if got := collect(b.ListDirs(t.Context(), "ns/", ""))(t); len(got) != n || got[n-1] != "pod-1004" {
		t.Errorf("got %d directories, want %d", len(got), n)
	}
	if failed, err := b.Delete(t.Context(), append(want, "ns/missing")...); err != nil || len(failed) != 0 {
		t.Errorf("delete left %d: %v", len(failed), err)
	}
	if got := collect(b.List(t.Context(), "", ""))(t); len(got) != 0 {
		t.Errorf("after the delete there are %d left", len(got))
	}
}

func listStops(t *testing.T, b storage.Bucket) {
	plant(t, b)
	for range b.List(t.Context(), "", "") {
		break
	}
	for range b.ListDirs(t.Context(), "", "") {
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	last := func(name string, err error, n int) {
		if !errors.Is(err, context.Canceled) || n != 0 {
			t.Errorf("%s with a cancelled context gave %d items and ended with %v", name, n, err)
		}
	}
	n, end := 0, error(nil)
	for _, err := range b.List(ctx, "a", "") {
		if end = err; err == nil {
			n++
		}
	}
	last("list", end, n)
	n, end = 0, nil
	for _, err := range b.ListDirs(ctx, "", "") {
		if end = err; err == nil {
			n++
		}
	}
	last("list of directories", end, n)
	n, end = 0, nil
	for _, err := range b.Uploads(ctx) {
		if end = err; err == nil {
			n++
		}
	}
	last("list of uploads", end, n)
}

func dirs(t *testing.T, b storage.Bucket) {
	plant(t, b)
	for prefix, all := range map[string][]string{
		"":      {"a-b", "a.b", "a", "aa", "b", "ns-2", "ns", "ns2"},
		"a/":    {"b-c", "b", "b0"},
		"ns/":   {"p-1", "p.1", "p", "p0"},
		"ns/p/": {"c"},
		"x/":    nil,
		"a/c/":  nil,
	} {
		for _, after := range append(slices.Clone(all), "", "a", "a0", "p0", "zzz") {
			var want []string
			for _, dir := range all {
				if after == "" || dir+"/" > after+"/" {
					want = append(want, dir)
				}
			}
			if got := collect(b.ListDirs(t.Context(), prefix, after))(t); !slices.Equal(got, want) {
				t.Errorf("below %q after %q: got %q, want %q", prefix, after, got, want)
			}
		}
	}
	if _, err := b.Delete(t.Context(), "ns/p/c/1", "ns/p/c/2"); err != nil {
		t.Fatal(err)
	}
	if got, want := collect(b.ListDirs(t.Context(), "ns/", ""))(t), []string{"p-1", "p.1", "p0"}; !slices.Equal(got, want) {
		t.Errorf("after the delete: got %q, want %q", got, want)
	}
}

func deletes(t *testing.T, b storage.Bucket) {
	plant(t, b)
	gone := []string{"a/b/x", "missing", "a/b", "ns", "ns/p/c/1", "a/c/below-a-key", "ns/p/c/1"}
	if failed, err := b.Delete(t.Context(), gone...); err != nil || len(failed) != 0 {
		t.Errorf("could not delete %q: %v", failed, err)
	}
	want := slices.DeleteFunc(slices.Clone(tree), func(key string) bool { return slices.Contains(gone, key) })
	if got := keys(collect(b.List(t.Context(), "", ""))(t)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if failed, err := b.Delete(t.Context()); err != nil || len(failed) != 0 {
		t.Errorf("delete of nothing failed: %q, %v", failed, err)
	}
	failed, err := b.Delete(t.Context(), "a/c", "../x", "z")
	if IsError(t, err, storage.ErrInvalid, "../x"); !slices.Equal(failed, []string{"../x"}) {
		t.Errorf("could not delete %q, want ../x alone", failed)
	}
	if _, err := b.Stat(t.Context(), "z"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("one bad key kept the others: %v", err)
	}
}

func deleteCancelled(t *testing.T, b storage.Bucket) {
	plant(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	failed, err := b.Delete(ctx, tree...)
	if slices.Sort(failed); !errors.Is(err, context.Canceled) || !slices.Equal(failed, tree) {
		t.Errorf("got %q, %v, want all keys and %v", failed, err, context.Canceled)
	}
}

func uploads(t *testing.T, b storage.Bucket) {
	// The upload is looked at from inside: its reader has been read to the second part and waits.
	const key = "ns/pod/container/large"
	var seen []storage.Upload
	look := calling{func() {
		for seen = nil; len(seen) == 0; { // a driver may begin the upload while it reads on
			if seen = collect(b.Uploads(t.Context()))(t); t.Failed() {
				return
			}
		}
		for range 2 { // what does not exist any more is no error
			if err := b.AbortUpload(t.Context(), seen[0]); err != nil {
				t.Error(err)
			}
		}
	}}
	_, err := b.Put(t.Context(), key, io.MultiReader(Stream(Bytes(11*mib)), look, Stream(Bytes(11*mib))), storage.PutOptions{})
	if err == nil { // of which kind is the store's affair
		t.Error("a put whose upload was removed by somebody else succeeded")
	}
	if len(seen) != 1 || seen[0].Key != key || seen[0].ID == "" {
		t.Fatalf("while the upload went on, the uploads were %+v", seen)
	}
	if age := time.Since(seen[0].Initiated); age < -time.Minute || age > time.Hour {
		t.Errorf("just begun, and initiated at %v", seen[0].Initiated)
	}
	_, err = b.Stat(t.Context(), key)
	IsError(t, err, storage.ErrNotFound, key)
	noUploads(t, b)
	if got := collect(b.List(t.Context(), "", ""))(t); len(got) != 0 {
		t.Errorf("there are objects: %v", got)
	}
}

func plant(t *testing.T, b storage.Bucket) {
	t.Helper()
	for i := range tree {
		write(t, b, tree[(i*7)%len(tree)], "x") // 7 and the length have no common divisor: all, in another order
	}
}

func keys(objects []storage.Object) (keys []string) {
	for _, o := range objects {
		keys = append(keys, o.Key)
	}
	return keys
}
