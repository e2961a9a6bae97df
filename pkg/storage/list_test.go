// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/storagetest"
)

// planted are dumps in the order of their keys, which is not that of their names: "-" and "." sort before "/".
func planted(t *testing.T, b storage.Bucket) (keys []storage.Key, names []string) {
	t.Helper()
	keys = []storage.Key{
		key("shop-2", "app", "main", 0), key("shop", "app-0", "main", 0), key("shop", "app-0", "main", 1), key("shop", "app-0", "side", 0), key("shop", "app.0", "main", 0),
		key("shop", "app", "main", 0), key("shop2", "app", "main", 0),
	}
	d := storage.NewDumps(b)
	for _, k := range keys {
		mustCommit(t, d, k, storage.CodecZstd, []byte(k.Name()))
		names = append(names, k.Namespace+"/"+k.Name())
	}
	// What is not ours is not there.
	for _, foreign := range []string{"README", "shop/app-0/main/notes.json", "shop/app-0/main/" + app.ID + ".json.bak", "shop/app-0/" + app.ID + ".json", "Shop/app-0/main/" + app.ID + ".json",
		"shop/app-0/main/more/" + app.ID + ".json", "shop/app-0/main/20261304t050607z-0123456789.json"} {
		write(t, b, foreign, []byte("foreign"))
	}
	return keys, names
}

func TestListIsInTheOrderOfTheKeys(t *testing.T) {
	b := newBucket(t)
	keys, names := planted(t, b)
	d := storage.NewDumps(b)
	for _, c := range []struct {
		scope storage.Scope
		want  []string
	}{
		{storage.Scope{}, names},
		{storage.Scope{Namespace: "shop"}, names[1:6]},
		{storage.Scope{Namespace: "shop", Pod: "app-0"}, names[1:4]},
		{storage.Scope{Namespace: "shop", Pod: "app-0", Container: "main"}, names[1:3]},
		{storage.Scope{Namespace: "shop", Pod: "app"}, names[5:6]},
		{storage.Scope{Namespace: "sho"}, nil},
		{storage.Scope{Namespace: "Shop"}, nil},
		{storage.Scope{Namespace: ".."}, nil},
		{storage.Scope{Namespace: "shop/app-0"}, nil},
	} {
		if got := list(t, d, c.scope, ""); !slices.Equal(got, c.want) {
			t.Errorf("%+v: got %q, want %q", c.scope, got, c.want)
		}
	}
	for i, k := range keys { // going on after each
		if got := list(t, d, storage.Scope{}, k.Record()); !slices.Equal(got, names[i+1:]) {
			t.Errorf("after %s: got %q, want %q", k.Record(), got, names[i+1:])
		}
	}
	for _, scope := range []storage.Scope{{Pod: "app"}, {Namespace: "shop", Container: "main"}} {
		for _, err := range d.List(t.Context(), scope, "") {
			if !errors.Is(err, storage.ErrInvalid) {
				t.Errorf("%+v: got %v, want %v", scope, err, storage.ErrInvalid)
			}
		}
	}
}

func TestNamespacesAndPods(t *testing.T) {
	b := newBucket(t)
	planted(t, b)
	d := storage.NewDumps(b)
	var namespaces []string
	for ns, err := range d.Namespaces(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		namespaces = append(namespaces, ns)
	}
	if want := []string{"shop-2", "shop", "shop2"}; !slices.Equal(namespaces, want) {
		t.Errorf("got %q, want %q", namespaces, want)
	}
	for after, want := range map[string][]string{"": {"app-0", "app.0", "app"}, "app-0": {"app.0", "app"}, "app": nil} {
		var pods []string
		for pod, err := range d.Pods(t.Context(), "shop", after) {
			if err != nil {
				t.Fatal(err)
			}
			pods = append(pods, pod)
		}
		if !slices.Equal(pods, want) {
			t.Errorf("after %q: got %q, want %q", after, pods, want)
		}
	}
	for pod, err := range d.Pods(t.Context(), "..", "") {
		t.Errorf("a namespace that cannot be has pod %q, %v", pod, err)
	}
}

func TestARecordThatCannotBeUnderstoodIsYieldedAlone(t *testing.T) {
	b := newBucket(t)
	keys, names := planted(t, b)
	d := storage.NewDumps(b)
	for i, data := range []string{"", "null", "{", `{"kind":"CoreDump","apiVersion":"coredump.example.io/v1alpha1"}`, strings.Repeat("x", storage.MaxRecordSize+1)} {
		replace(t, b, keys[2*(i%3)].Record(), []byte(data))
		want := slices.Clone(names)
		for j := range min(i+1, 3) {
			want[2*j] = "unreadable " + keys[2*j].Name()
		}
		if got := list(t, d, storage.Scope{}, ""); !slices.Equal(got, want) {
			t.Errorf("%.20q: got %q, want %q", data, got, want)
		}
	}
	// A record of another dump, however right it is there, is not one of this.
	replace(t, b, keys[1].Record(), readObject(t, b, keys[3].Record()))
	if got := list(t, d, storage.Scope{}, ""); got[1] != "unreadable "+keys[1].Name() {
		t.Errorf("a copied record: got %q", got[1])
	}
}

func TestARecordThatIsDeletedWhileItIsListedIsLeftOut(t *testing.T) {
	b := newBucket(t)
	keys, names := planted(t, b)
	b.Before = func(op storagetest.Op, k string) error {
		if op == storagetest.OpOpen && k == keys[2].Record() {
			_, err := b.Bucket.Delete(context.Background(), k)
			return err
		}
		return nil
	}
	if got, want := list(t, storage.NewDumps(b), storage.Scope{}, ""), slices.Delete(slices.Clone(names), 2, 3); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAListThatFailsOrIsCancelledDoesNotEndCleanly(t *testing.T) {
	b := newBucket(t)
	keys, names := planted(t, b)
	away := &storage.Error{Op: "open", Key: "x", Kind: storage.ErrUnavailable}
	last := func(ctx context.Context, each func()) (n int, end error) {
		for _, err := range storage.NewDumps(b).List(ctx, storage.Scope{}, "") {
			if end = err; err == nil {
				n++
				each()
			}
		}
		return n, end
	}
	b.Before = func(op storagetest.Op, k string) error {
		if op == storagetest.OpOpen && k == keys[3].Record() {
			return away
		}
		return nil
	}
	if n, err := last(t.Context(), func() {}); n != 3 || !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("the fourth record cannot be read: got %d and %v", n, err)
	}
	b.Before = func(op storagetest.Op, _ string) error {
		if op == storagetest.OpList {
			return away
		}
		return nil
	}
	if n, err := last(t.Context(), func() {}); n != 0 || !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("the list fails: got %d and %v", n, err)
	}
	b.Before = nil
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if n, err := last(ctx, cancel); n == 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled after the first: got %d of %d and %v", n, len(names), err)
	}
}

func TestReadingAheadIsBoundedAndEndsWithTheList(t *testing.T) {
	b, keys := sixty(t)
	synctest.Test(t, func(t *testing.T) {
		var running atomic.Int64
		hold, leave := make(chan struct{}), make(chan struct{})
		b.Before = func(op storagetest.Op, key string) error {
			if op == storagetest.OpOpen && key != keys[0].Record() {
				running.Add(1)
				<-hold
				running.Add(-1)
			}
			return nil
		}
		left := make(chan struct{})
		go func() {
			defer close(left)
			for range storage.NewDumps(b).List(t.Context(), storage.Scope{}, "") {
				<-leave
				break
			}
		}()
		synctest.Wait() // all that is read ahead is held now
		if n := running.Load(); n < 2 || n > 20 {
			t.Errorf("%d records are read at a time, want some, and at most 20", n)
		}
		close(leave)
		synctest.Wait()
		select {
		case <-left:
			t.Errorf("%d reads go on after the list was left", running.Load())
		default:
		}
		close(hold)
		<-left
	})
}

func TestAListThatIsCancelledWhileItReadsAheadDoesNotEndCleanly(t *testing.T) {
	b, keys := sixty(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n, end := 0, error(nil)
		for _, err := range storage.NewDumps(b).List(ctx, storage.Scope{}, "") {
			if n == 0 {
				synctest.Wait() // what is read ahead has been read, without an error
				cancel()
			}
			if end = err; err == nil {
				n++
			}
		}
		if n == len(keys) || !errors.Is(end, context.Canceled) {
			t.Errorf("got %d of %d and %v", n, len(keys), end)
		}
	})
}

// sixty are more dumps than are read ahead.
func sixty(t *testing.T) (b *storagetest.Faulty, keys []storage.Key) {
	t.Helper()
	b = newBucket(t)
	d := storage.NewDumps(b)
	for i := range 60 {
		keys = append(keys, key("shop", fmt.Sprintf("app-%02d", i), "main", i))
		if err := commit(t.Context(), d, keys[i], storage.CodecNone, nil); err != nil {
			t.Fatal(err)
		}
	}
	return b, keys
}

func TestRecordsAreReadOnce(t *testing.T) {
	b := newBucket(t)
	keys, names := planted(t, b)
	d := storage.NewDumps(b)
	for range 3 {
		if got := list(t, d, storage.Scope{}, ""); !slices.Equal(got, names) {
			t.Fatalf("got %q", got)
		}
	}
	before := b.Count(storagetest.OpOpen)
	rec := mustGet(t, d, keys[0])
	rec.Spec.NodeName = "changed by who got it"
	if mustGet(t, d, keys[0]).Spec.NodeName != "" {
		t.Error("what a caller does to a record is seen by others")
	}
	if n := b.Count(storagetest.OpOpen) - before; n != 0 || before != 2*len(names) { // once when planted
		t.Errorf("%d and %d records were read, want %d and 0", before, n, 2*len(names))
	}
	// One that was deleted and made again is another.
	if _, err := d.Delete(t.Context(), storage.Entry{Key: keys[0], IsRecord: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get(t.Context(), keys[0]); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("deleted: got %v, want %v", err, storage.ErrNotFound)
	}
	again := record(keys[0], []byte("another"))
	data, err := storage.EncodeRecord(keys[0], again)
	if err != nil {
		t.Fatal(err)
	}
	write(t, b, keys[0].Record(), data)
	if got := mustGet(t, d, keys[0]); got.Status.SHA256 != again.Status.SHA256 {
		t.Error("the old record is still there")
	}
}

func TestSeveralWhoListAtATimeReadEachRecordOnce(t *testing.T) {
	b, keys := sixty(t)
	d := storage.NewDumps(b)
	before := b.Count(storagetest.OpOpen)
	var together sync.WaitGroup
	for range 8 {
		together.Go(func() {
			n := 0
			for l, err := range d.List(t.Context(), storage.Scope{}, "") {
				if err != nil || l.Record == nil {
					t.Errorf("got %+v, %v", l, err)
				}
				n++
			}
			if n != len(keys) {
				t.Errorf("%d dumps, want %d", n, len(keys))
			}
		})
	}
	together.Wait()
	if n := b.Count(storagetest.OpOpen) - before; n != len(keys) {
		t.Errorf("%d records were read, want %d", n, len(keys))
	}
}

// Who waits for what another reads does not fail with him.
func TestAListThatIsGivenUpTakesNoOtherWithIt(t *testing.T) {
	b, keys := sixty(t)
	d := storage.NewDumps(b)
	ctx, cancel := context.WithCancel(t.Context())
	reading := make(chan struct{}, len(keys))
	hold := make(chan struct{})
	var first atomic.Bool
	b.Before = func(op storagetest.Op, _ string) error {
		if op == storagetest.OpOpen && first.CompareAndSwap(false, true) {
			reading <- struct{}{}
			<-hold
			return ctx.Err()
		}
		return nil
	}
	var ended sync.WaitGroup
	ended.Go(func() {
		for range d.List(ctx, storage.Scope{}, "") {
		}
	})
	<-reading
	got := make(chan []string)
	go func() { got <- list(t, d, storage.Scope{}, "") }()
	cancel()
	close(hold)
	if names := <-got; len(names) != len(keys) {
		t.Errorf("the other has %d dumps, want %d", len(names), len(keys))
	}
	ended.Wait()
}

func TestALimitedCacheReadsAgain(t *testing.T) {
	b, keys := sixty(t)
	for _, test := range []struct{ limit, opens int }{{0, 2 * len(keys)}, {1 << 20, len(keys)}} {
		d := storage.NewDumps(b)
		d.LimitCache(int64(test.limit))
		before := b.Count(storagetest.OpOpen)
		for range 2 {
			if got := list(t, d, storage.Scope{}, ""); len(got) != len(keys) {
				t.Errorf("%d dumps", len(got))
			}
		}
		if n := b.Count(storagetest.OpOpen) - before; n != test.opens {
			t.Errorf("with %d bytes %d records were read, want %d", test.limit, n, test.opens)
		}
	}
}

// A page costs no more requests than its records: the store is not asked for what comes behind before somebody wants it.
func TestAListUpToANumberAsksTheStoreForNoMore(t *testing.T) {
	b, keys := sixty(t)
	d := storage.NewDumps(b)
	for _, n := range []int{1, 17, 60, 100} {
		before := b.Count(storagetest.OpOpen)
		d.LimitCache(0)
		got := 0
		for l, err := range d.Known().ListUpTo(t.Context(), storage.Scope{}, "", n) {
			if err != nil || l.Key != keys[got] {
				t.Fatalf("%d: got %+v, %v", got, l, err)
			}
			if got++; got == n {
				break
			}
		}
		if opens := b.Count(storagetest.OpOpen) - before; opens != min(n, len(keys)) {
			t.Errorf("%d records were read for %d", opens, n)
		}
		all := 0
		for _, err := range d.Known().ListUpTo(t.Context(), storage.Scope{}, "", n) {
			if err != nil {
				t.Fatal(err)
			}
			all++
		}
		if all != len(keys) {
			t.Errorf("who wants more than %d gets %d, want %d", n, all, len(keys))
		}
	}
}
