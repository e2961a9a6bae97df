// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/generated/clientset/versioned"
	"example.io/coredump/pkg/generated/informers/externalversions"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/storagetest"
)

// openWatch is a watch as a client sees it.
type openWatch struct {
	f      *fixture
	body   *json.Decoder
	closer func() error
	last   string // the resource version to resume from
}

// event is an event of any of the resources.
type event struct {
	Type   watch.EventType
	Object struct {
		metav1.TypeMeta
		metav1.ObjectMeta `json:"metadata"`
		Code              int
		Message           string
		Status            json.RawMessage
	}
}

func (f *fixture) watch(who, path string) *openWatch {
	f.t.Helper()
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	resp, err := f.do(f.client, who, "GET", path+sep+"watch=true")
	if err != nil {
		f.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		var s metav1.Status
		_ = json.NewDecoder(resp.Body).Decode(&s)
		resp.Body.Close()
		f.t.Fatalf("watch %s as %s: %d %s", path, who, resp.StatusCode, s.Message)
	}
	w := &openWatch{f: f, body: json.NewDecoder(resp.Body), closer: resp.Body.Close}
	f.t.Cleanup(func() { _ = resp.Body.Close() })
	return w
}

// next waits for an event; ok is false at the end of the watch.
func (w *openWatch) next() (e event, ok bool) {
	if err := w.body.Decode(&e); err != nil {
		return e, false
	}
	if e.Type != watch.Error {
		w.last = e.Object.ResourceVersion
	}
	return e, true
}

// wants fails unless these are the next events: a type and a name each.
func (w *openWatch) wants(want ...string) {
	w.f.t.Helper()
	for _, line := range want {
		e, ok := w.next()
		if got := fmt.Sprintf("%s %s", e.Type, e.Object.Name); !ok || got != line {
			w.f.t.Fatalf("got %q (code %d, %s), want %q", got, e.Object.Code, e.Object.Message, line)
		}
	}
}

// wantsExpired fails unless the watch ends because the client has to list again.
func (w *openWatch) wantsExpired() {
	w.f.t.Helper()
	e, ok := w.next()
	if !ok || e.Type != watch.Error || e.Object.Code != http.StatusGone {
		w.f.t.Fatalf("got %+v %v, want 410", e, ok)
	}
	if _, more := w.next(); more {
		w.f.t.Error("the watch goes on")
	}
}

func (f *fixture) version(who, path string) string {
	f.t.Helper()
	var list metav1.PartialObjectMetadataList
	f.get(who, path, &list)
	return list.ResourceVersion
}

func (f *fixture) remove(keys ...storage.Key) {
	f.t.Helper()
	for _, k := range keys {
		if _, err := f.dumps.Delete(f.t.Context(), storage.Entry{Key: k, IsRecord: true}); err != nil {
			f.t.Fatal(err)
		}
	}
}

const shopDumps, shopPods = api + "/namespaces/shop/coredumps", api + "/namespaces/shop/coredumpendpoints"

func TestAWatchGoesOnWhereTheListEnded(t *testing.T) {
	f := start(t)
	first := f.put("shop", "web-0", "app", 9, []byte("core"))
	version := f.version("admin", shopDumps)
	// Nobody looked at the bucket meanwhile.
	second := f.put("shop", "web-0", "app", 8, []byte("core"))
	w := f.watch("admin", shopDumps+"?resourceVersion="+version)
	w.wants("ADDED " + second.Name())
	third := f.put("shop", "web-1", "app", 7, []byte("core"))
	w.wants("ADDED " + third.Name())
	f.remove(first)
	w.wants("DELETED " + first.Name())
	// Another client resumes from where this one is, and sees what it has not.
	resumed := w.last
	fourth := f.put("shop", "web-1", "app", 6, []byte("core"))
	w.wants("ADDED " + fourth.Name())
	again := f.watch("admin", shopDumps+"?resourceVersion="+resumed)
	for {
		e, ok := again.next()
		if !ok || e.Type == watch.Deleted && e.Object.Name != first.Name() {
			t.Fatalf("got %+v, %v", e, ok)
		}
		if e.Object.Name == fourth.Name() {
			break
		}
	}
}

func TestAWatchOfEndpoints(t *testing.T) {
	f := start(t)
	f.put("shop", "web-0", "app", 9, []byte("core"))
	w := f.watch("admin", shopPods+"?resourceVersion="+f.version("admin", shopPods))
	a := f.put("shop", "web-1", "app", 8, []byte("core"))
	w.wants("ADDED web-1")
	b := f.put("shop", "web-1", "app", 7, []byte("core"))
	w.wants("MODIFIED web-1")
	before := w.last
	f.remove(b)
	w.wants("MODIFIED web-1")
	if w.last == before {
		t.Error("the resource version is the same though a dump is gone")
	}
	f.remove(a)
	w.wants("DELETED web-1")
}

// What was deleted while nobody looked cannot be known, so the client is told to list again.
func TestAWatchThatMayHaveMissedADeletionHasExpired(t *testing.T) {
	for _, path := range []string{shopDumps, shopPods} {
		f := start(t)
		keys := some(f)
		version := f.version("admin", path)
		f.remove(keys[1])
		s, _ := f.refused("admin", path+"?watch=true&resourceVersion="+version, http.StatusGone, "too old resource version")
		if s.Reason != metav1.StatusReasonExpired {
			t.Errorf("%s: the reason is %s", path, s.Reason)
		}
		// Once it has, it can watch.
		w := f.watch("admin", path+"?resourceVersion="+f.version("admin", path))
		f.put("shop", "new-0", "app", 1, []byte("core"))
		if e, _ := w.next(); e.Type != watch.Added {
			t.Errorf("%s: got %+v", path, e)
		}
	}
	f := start(t)
	old := fmt.Sprint(time.Now().Add(-time.Hour).UnixNano())
	f.refused("admin", api+"/coredumps?watch=true&resourceVersion="+old, http.StatusGone, "too old")
	f.refused("admin", api+"/coredumps?watch=true&resourceVersion="+fmt.Sprint(time.Now().Add(time.Hour).UnixNano()), http.StatusGone, "future")
	f.refused("admin", api+"/coredumps?watch=true&resourceVersion=x", http.StatusBadRequest, "resourceVersion")
}

// WatchList: the informers of today begin like that.
func TestAWatchBeginsWithWhatThereIsAndSaysWhenThatWasAll(t *testing.T) {
	f := start(t)
	keys := some(f)
	const list = "?allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
	w := f.watch("admin", api+"/coredumps"+list)
	var want []string
	for _, k := range keys {
		want = append(want, "ADDED "+k.Name())
	}
	w.wants(want...)
	e, _ := w.next()
	if e.Type != watch.Bookmark || e.Object.Annotations[metav1.InitialEventsAnnotationKey] != "true" || e.Object.Kind != "CoreDump" || e.Object.ResourceVersion == "" {
		t.Fatalf("got %+v", e)
	}
	f.remove(keys[0])
	w.wants("DELETED "+keys[0].Name(), "BOOKMARK ")
	// The bookmark is as good as the resource version of a list, on any server: no other has looked at the bucket.
	other := start(t, func(c *Config) { c.Bucket = f.store })
	more := f.put("shop", "web-9", "app", 1, []byte("core"))
	resumed := other.watch("admin", api+"/coredumps?resourceVersion="+w.last)
	resumed.wants("ADDED " + more.Name())

	pods := f.watch("admin", shopPods+list)
	pods.wants("ADDED web-0-x", "ADDED web-0.x", "ADDED web-0", "ADDED web-9")
	if e, _ := pods.next(); e.Object.Annotations[metav1.InitialEventsAnnotationKey] != "true" || e.Object.Kind != "CoreDumpEndpoint" {
		t.Errorf("got %+v", e)
	}
}

func TestWatchesHaveSelectors(t *testing.T) {
	f := start(t)
	keys := some(f)
	name := keys[2].Name()
	for _, test := range []struct {
		selector string
		fits     func(d storage.Key) bool
	}{
		{"labelSelector=app%3Dweb-7", func(k storage.Key) bool { return k.Pod == "web-7" }},
		{"fieldSelector=spec.podName%3Dweb-7", func(k storage.Key) bool { return k.Pod == "web-7" }},
		{"fieldSelector=spec.containerName%3Dside", func(k storage.Key) bool { return k.Container == "side" }},
		{"fieldSelector=metadata.name%3D" + name, func(k storage.Key) bool { return k.Name() == name }},
	} {
		w := f.watch("admin", shopDumps+"?resourceVersion="+f.version("admin", shopDumps+"?"+test.selector)+"&"+test.selector)
		made := []storage.Key{f.put("shop", "web-7", "app", 3, []byte("core")), f.put("shop", "web-8", "side", 2, []byte("core")), f.put("bank", "web-7", "side", 1, []byte("core"))}
		for _, k := range made {
			if test.fits(k) && k.Namespace == "shop" {
				w.wants("ADDED " + k.Name())
			}
		}
		f.remove(made...)
		if test.fits(keys[2]) {
			f.remove(keys[2])
			for e, ok := w.next(); e.Type != watch.Deleted; e, ok = w.next() { // a list by name tells less than others
				if !ok || e.Type != watch.Added || e.Object.Name != name {
					t.Fatalf("got %+v", e)
				}
			}
			continue
		}
		for _, k := range made {
			if test.fits(k) && k.Namespace == "shop" {
				w.wants("DELETED " + k.Name())
			}
		}
	}
	f.refused("admin", shopDumps+"?watch=true&fieldSelector=spec.image%3Dx", 400, "spec.image")
}

// The namespace was deleted and made again by somebody else.
func TestAWatchShowsTheDumpsOfTheLivingNamespaceAlone(t *testing.T) {
	f := start(t)
	tenant := []grant{{"tenant", "list", "coredumps", "shop", ""}, {"tenant", "watch", "coredumps", "shop", ""}}
	f.allow(tenant...)
	f.put("shop", "web-0", "app", 9, []byte("core"))
	w := f.watch("tenant", shopDumps+"?resourceVersion="+f.version("tenant", shopDumps))
	all := f.watch("admin", shopDumps+"?resourceVersion="+f.version("admin", shopDumps))
	older := f.put("shop", "web-1", "app", 8, []byte("core"), func(d *v1alpha1.CoreDump) { d.Spec.NamespaceUID = "shop-0" })
	ours := f.put("shop", "web-1", "app", 7, []byte("core"))
	w.wants("ADDED " + ours.Name())
	all.wants("ADDED "+older.Name(), "ADDED "+ours.Name())
	f.remove(older, ours)
	w.wants("DELETED " + ours.Name())

	if err := f.kube.Tracker().Update(corev1.SchemeGroupVersion.WithResource("namespaces"), namespace("shop", "shop-2"), ""); err != nil {
		t.Fatal(err)
	}
	// Who watches is not shown what comes now, whosoever it is, and has to list again.
	f.put("shop", "web-2", "app", 6, []byte("core"), func(d *v1alpha1.CoreDump) { d.Spec.NamespaceUID = "shop-2" })
	w.wantsExpired()
	if got := f.names("tenant", shopDumps); len(got) != 1 {
		t.Errorf("the list has %v", got)
	}
}

func TestRightsOfWatches(t *testing.T) {
	f := start(t)
	f.allow(grant{"lister", "list", "coredumps", "", ""}, grant{"tenant", "watch", "coredumps", "shop", ""})
	f.refused("lister", shopDumps+"?watch=true", http.StatusForbidden)
	f.refused("tenant", api+"/coredumps?watch=true", http.StatusForbidden)
	f.refused("tenant", shopPods+"?watch=true", http.StatusForbidden)
}

func TestTheBucketIsPolledWhileSomebodyWatches(t *testing.T) {
	f := start(t)
	lists := func() int { return f.store.Count(storagetest.OpList) }
	f.version("admin", shopDumps)
	if n := lists(); n != 1 {
		t.Errorf("a list lists %d times", n)
	}
	first := f.watch("admin", shopDumps)
	second := f.watch("admin", shopDumps)
	before := lists()
	f.eventually("polls", func() bool { return lists() > before+3 })
	if err := errors.Join(first.closer(), second.closer()); err != nil {
		t.Fatal(err)
	}
	f.eventually("an end of the polls", func() bool {
		n := lists()
		time.Sleep(200 * time.Millisecond) // ten times the interval
		return lists() == n
	})
	for _, c := range f.store.Calls() {
		if c.Op == storagetest.OpList && c.Key != "shop/" {
			t.Errorf("%q is listed", c.Key)
		}
	}
}

func TestWatchesStayOpenWhileTheStoreIsAway(t *testing.T) {
	var away atomic.Bool
	f := start(t)
	f.store.Before = func(storagetest.Op, string) error {
		if away.Load() {
			return &storage.Error{Op: "list", Kind: storage.ErrUnavailable}
		}
		return nil
	}
	w := f.watch("admin", shopDumps+"?resourceVersion="+f.version("admin", shopDumps))
	before := len(f.store.Calls())
	away.Store(true)
	f.eventually("polls that fail", func() bool { return len(f.store.Calls()) > before+3 })
	f.refused("admin", api+"/coredumps?watch=true&resourceVersion="+fmt.Sprint(time.Now().UnixNano()), http.StatusServiceUnavailable)
	away.Store(false)
	k := f.put("shop", "web-0", "app", 1, []byte("core"))
	w.wants("ADDED " + k.Name())
}

func TestWatchesAreTablesToo(t *testing.T) {
	f := start(t)
	k := f.put("shop", "web-0", "app", 9, []byte("core"))
	resp, err := f.do(f.client, "admin", "GET", shopDumps+"?watch=true", "Accept", asTable)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var e struct {
		Type   string
		Object metav1.Table
	}
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || e.Type != "ADDED" || len(e.Object.Rows) != 1 || e.Object.Rows[0].Cells[0] != k.Name() {
		t.Errorf("got %+v, %v", e, err)
	}
}

// The informers of the generated client, as they are by default and as they were before WatchList.
func TestInformers(t *testing.T) {
	for _, test := range []struct {
		name  string
		tweak externalversions.SharedInformerOption
	}{
		{"all", externalversions.WithTweakListOptions(func(*metav1.ListOptions) {})},
		{"one namespace", externalversions.WithNamespace("shop")},
		{"without WatchList", externalversions.WithTweakListOptions(func(o *metav1.ListOptions) {
			if o.SendInitialEvents != nil { // a server that does not know of it
				o.SendInitialEvents, o.ResourceVersionMatch = nil, "unknown"
			}
		})},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := start(t)
			keys := some(f)[1:] // of shop
			client, err := versioned.NewForConfig(&rest.Config{Host: f.url, BearerToken: "admin", TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
			if err != nil {
				t.Fatal(err)
			}
			factory := externalversions.NewSharedInformerFactoryWithOptions(client, 0, test.tweak)
			dumps, pods := factory.Coredump().V1alpha1().CoreDumps(), factory.Coredump().V1alpha1().CoreDumpEndpoints()
			var deleted atomic.Int32
			if _, err := dumps.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: func(any) { deleted.Add(1) }}); err != nil {
				t.Fatal(err)
			}
			pods.Informer()
			ctx, stop := context.WithCancel(t.Context())
			factory.Start(ctx.Done())
			defer factory.Shutdown()
			defer stop()
			for what, ok := range factory.WaitForCacheSync(t.Context().Done()) {
				if !ok {
					t.Fatalf("%v is not in sync", what)
				}
			}
			has := func(want ...storage.Key) func() bool {
				return func() bool {
					got, err := dumps.Lister().CoreDumps("shop").List(labels.Everything())
					if err != nil {
						t.Fatal(err)
					}
					var names, wanted []string
					counts := map[string]int64{}
					for _, d := range got {
						names = append(names, d.Name)
					}
					for _, k := range want {
						wanted = append(wanted, k.Name())
						counts[k.Pod]++
					}
					slices.Sort(names)
					slices.Sort(wanted)
					if !slices.Equal(names, wanted) {
						return false
					}
					sums, err := pods.Lister().CoreDumpEndpoints("shop").List(labels.Everything())
					if err != nil {
						t.Fatal(err)
					}
					for _, s := range sums {
						if s.Status.Count != counts[s.Name] {
							return false
						}
						delete(counts, s.Name)
					}
					return len(counts) == 0
				}
			}
			f.eventually("what there is", has(keys...))
			keys = append(keys, f.put("shop", "web-0", "app", 1, []byte("core")), f.put("shop", "web-3", "app", 1, []byte("core")))
			f.eventually("what is new", has(keys...))
			f.remove(keys[0], keys[len(keys)-1])
			keys = keys[1 : len(keys)-1]
			f.eventually("what is left", has(keys...))
			if n := deleted.Load(); n != 2 {
				t.Errorf("%d deletions were seen, want 2", n)
			}
		})
	}
}
