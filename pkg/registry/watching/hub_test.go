// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package watching

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/authentication/user"
	apirequest "k8s.io/apiserver/pkg/endpoints/request"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/revision"
	"example.io/coredump/pkg/storage"
)

// bucket is a Source in memory. Its records are read at once.
type bucket struct {
	mu     sync.Mutex
	at     map[string]time.Time
	listed int
	takes  time.Duration // to list it
	fails  error
	forget bool // Remembered knows nothing
	uid    string
}

func (b *bucket) put(names ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range names {
		b.at[keyOf(n).Record()] = time.Now()
	}
}

func (b *bucket) remove(names ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range names {
		delete(b.at, keyOf(n).Record())
	}
}

// version is the resource version of a whole list.
func (b *bucket) version() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var set revision.Set
	for k := range b.at {
		set.Add(k)
	}
	return revision.Of(time.Now(), set.Fingerprint())
}

func (b *bucket) lists() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.listed
}

func keyOf(pod string) storage.Key {
	return storage.Key{Namespace: "shop", Pod: pod, Container: "app", ID: "20260701t120000z-0123456789"}
}

func (b *bucket) Records(ctx context.Context, _ storage.Scope) iter.Seq2[storage.Listed, error] {
	return func(yield func(storage.Listed, error) bool) {
		select {
		case <-time.After(b.takes):
		case <-ctx.Done():
			yield(storage.Listed{}, ctx.Err())
			return
		}
		b.mu.Lock()
		b.listed++
		at, err := maps.Clone(b.at), b.fails
		b.mu.Unlock()
		if err != nil {
			yield(storage.Listed{}, err)
			return
		}
		for _, k := range slices.Sorted(maps.Keys(at)) {
			e, _ := storage.ParseKey(k)
			if !yield(storage.Listed{Entry: e, Object: storage.Object{Key: k, ETag: fmt.Sprint(at[k]), LastModified: at[k]}}, nil) {
				return
			}
		}
	}
}

func (b *bucket) Read(_ context.Context, l storage.Listed) (storage.Listing, error) {
	return storage.Listing{Key: l.Key, Record: b.record(l)}, nil
}

func (b *bucket) Remembered(l storage.Listed) *v1alpha1.CoreDump {
	if b.forget {
		return nil
	}
	return b.record(l)
}

func (b *bucket) record(l storage.Listed) *v1alpha1.CoreDump {
	d := storage.Bare(l.Key)
	d.Spec.NamespaceUID = "shop-1"
	return d
}

const interval = 5 * time.Second

func newBucket() (*bucket, *Hub) {
	b := &bucket{at: map[string]time.Time{}, uid: "shop-1"}
	return b, NewHub(Config{
		Source: b, Interval: interval,
		LivingUID:  func(context.Context, string) (string, error) { b.mu.Lock(); defer b.mu.Unlock(); return b.uid, nil },
		Unreadable: func(context.Context, storage.Key, error) {},
	})
}

func request(view View, opts metainternalversion.ListOptions) Request {
	return Request{
		Scope: storage.Scope{Namespace: "shop"}, View: view, Options: &opts,
		New: func() runtime.Object { return &v1alpha1.CoreDump{} },
		Initial: func(context.Context) iter.Seq2[runtime.Object, error] {
			return func(func(runtime.Object, error) bool) {}
		},
		Events: func(_ context.Context, b *Batch) (events []watch.Event, err error) {
			for _, c := range b.Changes {
				events = append(events, watch.Event{Type: c.Type, Object: c.Dump})
			}
			return events, nil
		},
		Status: func(err error) error {
			if s := apierrors.APIStatus(nil); errors.As(err, &s) {
				return err
			}
			return apierrors.NewServiceUnavailable(err.Error())
		},
	}
}

var everything = View{Everything: true}

func mustWatch(t *testing.T, h *Hub, view View, opts metainternalversion.ListOptions) watch.Interface {
	t.Helper()
	w, err := h.Watch(t.Context(), request(view, opts))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w
}

// next is the next event in words, or "end".
func next(w watch.Interface) string {
	e, ok := <-w.ResultChan()
	if !ok {
		return "end"
	}
	switch o := e.Object.(type) {
	case *v1alpha1.CoreDump:
		return fmt.Sprint(e.Type, " ", o.Spec.PodName)
	case *metav1.Status:
		return fmt.Sprint(e.Type, " ", o.Code)
	}
	return fmt.Sprintf("%T", e.Object)
}

func wants(t *testing.T, w watch.Interface, want ...string) {
	t.Helper()
	for _, line := range want {
		if got := next(w); got != line {
			t.Fatalf("got %q, want %q", got, line)
		}
	}
}

// TestAUserHasNoMoreThanSoManyWatches: each of another pod lists the bucket by itself.
func TestAUserHasNoMoreThanSoManyWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := newBucket()
		open := func(who string, i int) (watch.Interface, error) {
			req := request(everything, metainternalversion.ListOptions{})
			req.Scope.Pod = fmt.Sprintf("web-%d", i)
			ctx, cancel := context.WithCancel(apirequest.WithUser(t.Context(), &user.DefaultInfo{Name: who}))
			w, err := h.Watch(ctx, req)
			t.Cleanup(cancel)
			return w, err
		}
		var first watch.Interface
		for i := range 100 {
			w, err := open("alice", i)
			if err != nil {
				t.Fatalf("%d: %v", i, err)
			}
			if first == nil {
				first = w
			}
		}
		for range 3 {
			if _, err := open("alice", 100); !apierrors.IsTooManyRequests(err) {
				t.Errorf("one too many: %v", err)
			}
		}
		before := b.lists()
		time.Sleep(interval + time.Second)
		if n := b.lists() - before; n < 90 || n > 110 {
			t.Errorf("the bucket was listed %d times", n)
		}
		if _, err := open("bob", 100); err != nil {
			t.Errorf("somebody else: %v", err)
		}
		first.Stop()
		synctest.Wait()
		if _, err := open("alice", 100); err != nil {
			t.Errorf("in place of another: %v", err)
		}
	})
}

func TestWhoWatchesTheSameSharesAPoller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := newBucket()
		v := b.version()
		var all []watch.Interface
		for range 10 {
			all = append(all, mustWatch(t, h, everything, metainternalversion.ListOptions{ResourceVersion: v}))
		}
		b.put("web")
		for _, w := range all {
			wants(t, w, "ADDED web")
		}
		if n := b.lists(); n != 2 {
			t.Errorf("the bucket was listed %d times", n)
		}
		for _, w := range all {
			w.Stop()
		}
		synctest.Wait()
		n := b.lists()
		time.Sleep(time.Hour)
		if b.lists() != n {
			t.Error("the bucket is listed though nobody watches")
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.pollers) != 0 {
			t.Error("pollers are kept for ever")
		}
	})
}

// Who comes back soon goes on where he was, also with what happened while nobody was looking.
func TestWhoComesBackMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := newBucket()
		b.put("a", "b")
		w := mustWatch(t, h, everything, metainternalversion.ListOptions{ResourceVersion: b.version()})
		b.put("c")
		wants(t, w, "ADDED c")
		left := b.version()
		w.Stop()
		time.Sleep(time.Minute)
		b.remove("a")
		b.put("d")
		again := mustWatch(t, h, everything, metainternalversion.ListOptions{ResourceVersion: left})
		wants(t, again, "ADDED c", "DELETED a", "ADDED d") // c once more: its poll ended less than skew before
		again.Stop()
		// After the history is gone it is known what was added, and not what was deleted.
		time.Sleep(2 * linger)
		left = b.version()
		b.put("e")
		wants(t, mustWatch(t, h, everything, metainternalversion.ListOptions{ResourceVersion: left}), "ADDED e")
		_, fresh := newBucket()
		fresh.config.Source = b
		b.remove("b")
		if _, err := fresh.Watch(t.Context(), request(everything, metainternalversion.ListOptions{ResourceVersion: left})); !apierrors.IsResourceExpired(err) {
			t.Errorf("got %v, want 410", err)
		}
	})
}

func TestAWatcherThatDoesNotTakeItsEventsIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := newBucket()
		v := b.version()
		slow := mustWatch(t, h, everything, metainternalversion.ListOptions{ResourceVersion: v})
		quick := mustWatch(t, h, everything, metainternalversion.ListOptions{ResourceVersion: v})
		for i := range 2 * (maxQueue + maxReady) {
			b.put(fmt.Sprint("web-", i))
			wants(t, quick, fmt.Sprint("ADDED web-", i))
		}
		events := 0
		for range slow.ResultChan() {
			events++
		}
		if events > maxReady {
			t.Errorf("%d events were kept ready, at most %d should be", events, maxReady)
		}
	})
}

func TestAStoreThatIsAwayIsAskedLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := newBucket()
		w := mustWatch(t, h, everything, metainternalversion.ListOptions{ResourceVersion: b.version()})
		b.mu.Lock()
		b.fails = errors.New("away")
		b.mu.Unlock()
		before := b.lists()
		time.Sleep(time.Hour)
		if n := b.lists() - before; n < 40 || n > 70 {
			t.Errorf("it was asked %d times in an hour", n)
		}
		if _, err := h.Watch(t.Context(), request(everything, metainternalversion.ListOptions{ResourceVersion: fmt.Sprint(time.Now().Add(-time.Minute).UnixNano())})); err != nil {
			t.Errorf("who joins others: %v", err)
		}
		other := request(everything, metainternalversion.ListOptions{})
		other.Scope = storage.Scope{}
		var s apierrors.APIStatus
		if _, err := h.Watch(t.Context(), other); !errors.As(err, &s) || s.Status().Code != http.StatusServiceUnavailable {
			t.Errorf("got %v, want 503", err)
		}
		b.mu.Lock()
		b.fails = nil
		b.mu.Unlock()
		b.put("web")
		wants(t, w, "ADDED web")
	})
}

func TestPollsTakeATenthOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := newBucket()
		b.takes = 20 * time.Second
		mustWatch(t, h, everything, metainternalversion.ListOptions{ResourceVersion: b.version()})
		before := b.lists()
		time.Sleep(time.Hour)
		if n := b.lists() - before; n < 10 || n > 18 {
			t.Errorf("%d polls of 20s in an hour", n)
		}
	})
}

func TestTooMuchAtATimeIsListedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := newBucket()
		w := mustWatch(t, h, everything, metainternalversion.ListOptions{ResourceVersion: b.version()})
		for i := range maxChanges + 1 {
			b.put(fmt.Sprint("web-", i))
		}
		wants(t, w, "ERROR 410", "end")
		w = mustWatch(t, h, everything, metainternalversion.ListOptions{ResourceVersion: b.version()})
		b.put("last")
		wants(t, w, "ADDED last")
	})
}

func TestADeletedDumpOfWhichNothingIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := newBucket()
		b.forget = true
		b.put("web")
		v := b.version()
		admin := mustWatch(t, h, everything, metainternalversion.ListOptions{ResourceVersion: v})
		tenant := mustWatch(t, h, View{UID: "shop-1"}, metainternalversion.ListOptions{ResourceVersion: v})
		b.remove("web")
		wants(t, admin, "DELETED web")
		wants(t, tenant, "ERROR 410", "end") // it may be another's
	})
}

func TestAWatchEndsWithTheNamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := newBucket()
		tenant := mustWatch(t, h, View{UID: "shop-1"}, metainternalversion.ListOptions{ResourceVersion: b.version()})
		b.mu.Lock()
		b.uid = "shop-2"
		b.mu.Unlock()
		b.put("web")
		wants(t, tenant, "ERROR 410", "end")
		if _, err := h.Watch(t.Context(), request(View{UID: "shop-1"}, metainternalversion.ListOptions{ResourceVersion: b.version()})); !apierrors.IsResourceExpired(err) {
			t.Errorf("got %v, want 410", err)
		}
	})
}

func TestBookmarksTellTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := newBucket()
		w := mustWatch(t, h, everything, metainternalversion.ListOptions{ResourceVersion: b.version(), AllowWatchBookmarks: true})
		begin := time.Now()
		var last string
		for range 5 {
			e := <-w.ResultChan()
			if e.Type != watch.Bookmark {
				t.Fatalf("got %v", e)
			}
			v := e.Object.(*v1alpha1.CoreDump).ResourceVersion
			if v <= last {
				t.Errorf("resource version %s after %s", v, last)
			}
			last = v
		}
		if took := time.Since(begin); took > 10*bookmarkEvery {
			t.Errorf("five bookmarks took %s", took)
		}
	})
}

func TestTheHistoryIsBounded(t *testing.T) {
	var h history
	begin := time.Unix(1000, 0)
	h.restart(begin)
	for i := range 3 * maxHistory {
		h.add(&Batch{Changes: make([]Change, 1), end: begin.Add(time.Duration(i+1) * time.Second)})
	}
	if h.changes != maxHistory || len(h.batches) != maxHistory {
		t.Errorf("%d changes in %d batches", h.changes, len(h.batches))
	}
	if want := begin.Add(2 * maxHistory * time.Second); !h.floor.Equal(want) {
		t.Errorf("it goes back to %v, want %v", h.floor, want)
	}
	if got := h.since(begin.Add((3*maxHistory - 1) * time.Second)); len(got) != 2 {
		t.Errorf("%d batches, want 2", len(got))
	}
}

// Long records count by their length: pods can have records of a hundred KiB.
func TestTheHistoryOfLongRecordsIsShorter(t *testing.T) {
	var h history
	for i := range maxHistory {
		h.add(&Batch{Changes: []Change{{size: 128 << 10}}, end: time.Unix(int64(i), 0)})
	}
	if want := maxBytes / (128 << 10); h.changes != want || h.bytes > maxBytes {
		t.Errorf("%d changes of %d bytes, want %d", h.changes, h.bytes, want)
	}
	if want := time.Unix(int64(maxHistory-h.changes-1), 0); !h.floor.Equal(want) {
		t.Errorf("it goes back to %v, want %v", h.floor, want)
	}
}
