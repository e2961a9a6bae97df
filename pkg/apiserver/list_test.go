// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/storagetest"
)

func TestDiscoveryOffersWhatIsThereAndNoDelete(t *testing.T) {
	f := start(t)
	var got metav1.APIResourceList
	f.get("admin", api, &got)
	var lines []string
	for _, r := range got.APIResources {
		lines = append(lines, fmt.Sprintf("%s %s %s %v %v %v %v", r.Name, r.SingularName, r.Kind, r.Namespaced, r.Verbs, r.ShortNames, r.Categories))
	}
	want := []string{
		"coredumpendpoints coredumpendpoint CoreDumpEndpoint true [get list watch] [cdep] [crashes]",
		"coredumpendpoints/dump  CoreDumpEndpoint true [get] [] []",
		"coredumpendpoints/proxy  CoreDumpEndpoint true [get] [] []",
		"coredumps coredump CoreDump true [get list watch] [cdump] [crashes]",
		"coredumps/dump  CoreDump true [get] [] []",
		"coredumps/proxy  CoreDump true [get] [] []",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// kubectl explain and describe read the schemas.
func TestOpenAPIHasTheTypesWithTheirKinds(t *testing.T) {
	f := start(t)
	for path, parts := range map[string][]string{
		"/openapi/v3" + api: {"io.example.coredump.v1alpha1.CoreDump", `"x-kubernetes-group-version-kind":[{"group":"coredump.example.io","kind":"CoreDump","version":"v1alpha1"}]`,
			"CoreDumpEndpointStatus", "podName is the name of the pod"},
		"/openapi/v2": {"io.example.coredump.v1alpha1.CoreDump", "podName is the name of the pod"},
	} {
		code, _, data := f.try("admin", "GET", path)
		doc := strings.Join(strings.Fields(string(data)), "")
		for _, part := range parts {
			if code != http.StatusOK || !strings.Contains(doc, strings.Join(strings.Fields(part), "")) {
				t.Errorf("GET %s: %d, does not have %q", path, code, part)
			}
		}
	}
}

// some has dumps in two namespaces and gives their keys in the order of a list.
func some(f *fixture) []storage.Key {
	keys := []storage.Key{
		f.put("bank", "ledger-0", "app", 50, []byte("ledger")),
		f.put("shop", "web-0", "app", 40, []byte("web")),
		f.put("shop", "web-0", "app", 30, []byte("web")),
		f.put("shop", "web-0", "sidecar", 20, []byte("side"), func(d *v1alpha1.CoreDump) {
			d.Spec.Process.Signal, d.Spec.Process.SignalName, d.Spec.NodeName, d.Status.Truncated = 6, "SIGABRT", "node-2", true
		}),
		f.put("shop", "web-0.x", "app", 10, []byte("dot")),
		f.put("shop", "web-0-x", "app", 5, []byte("dash")),
	}
	slices.SortFunc(keys, func(a, b storage.Key) int { return strings.Compare(a.Record(), b.Record()) })
	return keys
}

func TestGetGivesTheRecord(t *testing.T) {
	f := start(t)
	k := f.put("shop", "web-0", "app", 1, []byte("core"))
	var d v1alpha1.CoreDump
	f.get("admin", api+"/namespaces/shop/coredumps/"+k.Name(), &d)
	if d.Name != k.Name() || d.Kind != "CoreDump" || d.UID == "" || d.Status.Size != 4 || !d.CreationTimestamp.Time.Equal(d.Spec.Process.Time.Time) {
		t.Errorf("got %+v", d)
	}
	if v, err := strconv.ParseInt(d.ResourceVersion, 10, 64); err != nil || v <= 0 {
		t.Errorf("resource version is %q", d.ResourceVersion)
	}
	f.refused("admin", api+"/namespaces/shop/coredumps/web-0.app.20260101t000000z-0123456789", 404, `"web-0.app.20260101t000000z-0123456789" not found`)
	f.refused("admin", api+"/namespaces/bank/coredumps/"+k.Name(), 404)
}

func TestListsAndSelectors(t *testing.T) {
	f := start(t)
	keys := some(f)
	shop := keys[1:]
	where := func(keep func(k storage.Key) bool) (out []storage.Key) {
		for _, k := range shop {
			if keep(k) {
				out = append(out, k)
			}
		}
		return out
	}
	web := where(func(k storage.Key) bool { return k.Pod == "web-0" })
	side := where(func(k storage.Key) bool { return k.Container == "sidecar" })
	for _, test := range []struct {
		path string
		want []storage.Key
	}{
		{"/coredumps", keys},
		{"/namespaces/shop/coredumps", shop},
		{"/namespaces/none/coredumps", nil},
		{"/namespaces/shop/coredumps?labelSelector=app%3Dweb-0", web},
		{"/namespaces/shop/coredumps?labelSelector=app+notin+(web-0)", where(func(k storage.Key) bool { return k.Pod != "web-0" })},
		{"/namespaces/shop/coredumps?fieldSelector=spec.podName%3Dweb-0", web},
		{"/namespaces/shop/coredumps?fieldSelector=spec.podName%3Dweb-0,spec.containerName%3Dsidecar", side},
		{"/namespaces/shop/coredumps?fieldSelector=spec.containerName%3Dsidecar", side},
		{"/namespaces/shop/coredumps?fieldSelector=spec.signal%3DSIGABRT", side},
		{"/namespaces/shop/coredumps?fieldSelector=spec.process.signal%3D6", side},
		{"/namespaces/shop/coredumps?fieldSelector=spec.nodeName%3Dnode-2", side},
		{"/namespaces/shop/coredumps?fieldSelector=status.truncated%3Dtrue", side},
		{"/namespaces/shop/coredumps?fieldSelector=spec.podUID%3Dweb-0-uid,spec.signal!%3DSIGABRT", where(func(k storage.Key) bool { return k.Pod == "web-0" && k.Container == "app" })},
		{"/namespaces/shop/coredumps?fieldSelector=spec.podName%3D..%2Fbank", nil},
		{"/namespaces/shop/coredumps?fieldSelector=metadata.name%3D" + side[0].Name(), side},
		{"/namespaces/shop/coredumps?fieldSelector=metadata.name%3D" + side[0].Name() + ",spec.signal%3DSIGSEGV", nil},
		{"/namespaces/shop/coredumps?fieldSelector=metadata.name%3Dnonsense", nil},
		{"/namespaces/bank/coredumps?fieldSelector=metadata.name%3D" + side[0].Name(), nil},
		{"/coredumps?fieldSelector=metadata.name%3D" + side[0].Name(), side},
		{"/coredumps?fieldSelector=metadata.namespace%3Dshop,spec.podName%3Dweb-0", web},
		{"/coredumps?fieldSelector=metadata.namespace%3Dbank", keys[:1]},
	} {
		if got := f.names("admin", api+test.path); !slices.Equal(got, named(test.want...)) {
			t.Errorf("%s:\n got %v\nwant %v", test.path, got, named(test.want...))
		}
	}
	f.refused("admin", api+"/coredumps?fieldSelector=spec.image%3Dx", 400, "spec.image", "spec.podName")
	f.refused("admin", api+"/coredumps?labelSelector=%3D%3D", 400)
}

// A list by pod name reads that pod's records and no others.
func TestSelectorsNarrowWhatIsRead(t *testing.T) {
	f := start(t)
	keys := some(f)
	before := len(f.store.Calls())
	f.names("admin", api+"/namespaces/shop/coredumps?fieldSelector=spec.podName%3Dweb-0")
	for _, c := range f.store.Calls()[before:] {
		if !strings.HasPrefix(c.Key, "shop/web-0/") {
			t.Errorf("%s %s", c.Op, c.Key)
		}
	}
	before = len(f.store.Calls())
	f.names("admin", api+"/namespaces/shop/coredumps?fieldSelector=metadata.name%3D"+keys[1].Name())
	for _, c := range f.store.Calls()[before:] {
		if c.Op == storagetest.OpList {
			t.Errorf("a list by name lists %q", c.Key)
		}
	}
}

func TestPagesOfAnySizeMakeTheWholeList(t *testing.T) {
	f := start(t)
	keys := some(f)
	for _, q := range []string{"/coredumps?", "/namespaces/shop/coredumps?labelSelector=app%3Dweb-0&", "/coredumpendpoints?", "/namespaces/shop/coredumpendpoints?"} {
		var whole v1alpha1.CoreDumpEndpointList // has the metadata of both
		f.get("admin", api+q, &whole)
		for limit := 1; limit <= len(keys)+1; limit++ {
			var got []string
			version, token := "", ""
			for pages := 0; ; pages++ {
				var page v1alpha1.CoreDumpEndpointList
				f.get("admin", fmt.Sprintf("%s%slimit=%d&continue=%s", api, q, limit, url.QueryEscape(token)), &page)
				for _, item := range page.Items {
					got = append(got, item.Namespace+"/"+item.Name)
				}
				if version == "" {
					version = page.ResourceVersion
				}
				if page.ResourceVersion != version || version == "" || page.RemainingItemCount != nil {
					t.Errorf("page %d has metadata %+v, the first had resource version %s", pages, page.ListMeta, version)
				}
				if token = page.Continue; token == "" {
					break
				}
				if len(page.Items) != limit || pages > len(keys) {
					t.Fatalf("page %d of %q with limit %d has %d items", pages, q, limit, len(page.Items))
				}
			}
			var want []string
			for _, item := range whole.Items {
				want = append(want, item.Namespace+"/"+item.Name)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q with limit %d:\n got %v\nwant %v", q, limit, got, want)
			}
		}
	}
}

func TestListOptionsThatCannotBeServed(t *testing.T) {
	f := start(t)
	k := f.put("shop", "web-0", "app", 1, []byte("core"))
	token := func(json string) string { return base64.RawURLEncoding.EncodeToString([]byte(json)) }
	for _, resource := range []string{"coredumps", "coredumpendpoints"} {
		path := api + "/namespaces/shop/" + resource
		f.refused("admin", path+"?limit=1&continue=!", 400, "continue")
		f.refused("admin", path+"?limit=1&continue="+token(`{`), 400, "continue")
		f.refused("admin", path+"?limit=1&continue="+token(`{"v":1,"rv":"1","after":"../bank"}`), 400, "continue")
		f.refused("admin", path+"?limit=1&continue="+token(`{"v":1,"rv":"01","after":"`+k.Record()+`"}`), 400, "resource version")
		f.refused("admin", path+"?limit=1&continue="+token(`{"v":1,"rv":"1","after":"bank/`+strings.TrimPrefix(k.Record(), "shop/")+`"}`), 400, "another namespace")
		s, _ := f.refused("admin", path+"?limit=1&continue="+token(`{"v":2}`), 410, "expired")
		if s.Reason != metav1.StatusReasonExpired {
			t.Errorf("reason is %s", s.Reason)
		}
		f.refused("admin", path+"?shardSelector=x", 400, "hardSelector")
		f.refused("admin", path+"?resourceVersion=1&resourceVersionMatch=Exact", 410)
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
			if code, _, _ := f.try("admin", method, path+"/x"); code != http.StatusMethodNotAllowed {
				t.Errorf("%s: %d, want 405", method, code)
			}
		}
	}
}

// One bad record hides nothing else, and is no secret.
func TestRecordsThatCannotBeUnderstood(t *testing.T) {
	f := start(t)
	keys := some(f)
	bad := storage.Key{Namespace: "shop", Pod: "web-0", Container: "app", ID: "20260101t000000z-0123456789"}
	if _, err := f.store.Bucket.Put(t.Context(), bad.Record(), strings.NewReader(`{"kind":"CoreDump"`), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := f.names("admin", api+"/coredumps"); !slices.Equal(got, named(keys...)) {
		t.Errorf("got %v, want %v", got, named(keys...))
	}
	if got := f.names("admin", api+"/namespaces/shop/coredumps?fieldSelector=metadata.name%3D"+bad.Name()); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	f.refused("admin", api+"/namespaces/shop/coredumps/"+bad.Name(), 500, bad.Record(), "corrupt")
	f.refused("admin", api+"/namespaces/shop/coredumps/"+bad.Name()+"/dump", 500, bad.Record())
	var e v1alpha1.CoreDumpEndpoint
	f.get("admin", api+"/namespaces/shop/coredumpendpoints/web-0", &e)
	if e.Status.Count != 3 {
		t.Errorf("endpoint counts %d", e.Status.Count)
	}
	_, _, metrics := f.try("admin", "GET", "/metrics")
	if !strings.Contains(string(metrics), "coredump_apiserver_unreadable_records_total") {
		t.Error("no metric of unreadable records")
	}
}

func TestEndpointSumsUpAPodName(t *testing.T) {
	f := start(t)
	f.put("shop", "web-0", "app", 40, []byte("12345"))
	f.put("shop", "web-0", "app", 30, []byte("123"), func(d *v1alpha1.CoreDump) { d.Spec.PodUID = "second" })
	f.put("shop", "web-0", "sidecar", 35, []byte("12"))
	var e v1alpha1.CoreDumpEndpoint
	f.get("admin", api+"/namespaces/shop/coredumpendpoints/web-0", &e)
	newest, oldest := now.Add(-30*60e9), now.Add(-40*60e9)
	if e.Name != "web-0" || e.Namespace != "shop" || e.UID == "" || e.ResourceVersion == "" || !e.CreationTimestamp.Time.Equal(oldest) {
		t.Errorf("metadata is %+v", e.ObjectMeta)
	}
	s := e.Status
	if s.Count != 3 || s.Size != 10 || !s.Newest.Time.Equal(newest) || !slices.Equal(s.PodUIDs, []string{"second", "web-0-uid"}) || len(s.Containers) != 2 {
		t.Errorf("status is %+v", s)
	}
	if c := s.Containers[0]; c.Name != "app" || c.Count != 2 || c.Size != 8 || !c.Newest.Time.Equal(newest) {
		t.Errorf("container is %+v", c)
	}
	f.refused("admin", api+"/namespaces/shop/coredumpendpoints/web-1", 404, `"web-1" not found`)
	var list v1alpha1.CoreDumpEndpointList
	f.get("admin", api+"/namespaces/shop/coredumpendpoints?fieldSelector=metadata.name%3Dweb-0", &list)
	if len(list.Items) != 1 || list.Items[0].UID != e.UID {
		t.Errorf("list by name is %+v", list.Items)
	}
}
