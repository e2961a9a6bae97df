// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// reader has all rights of a user in a namespace; empty means all namespaces.
func reader(user, namespace string) []grant {
	var grants []grant
	for _, resource := range []string{"coredumps", "coredumpendpoints"} {
		grants = append(grants, grant{user, "list", resource, namespace, ""})
		for _, sub := range []string{"", "/dump", "/proxy"} {
			grants = append(grants, grant{user, "get", resource + sub, namespace, ""})
		}
	}
	return grants
}

func TestNobodyGetsInWithoutAName(t *testing.T) {
	f := start(t)
	for _, path := range []string{api, api + "/coredumps", "/metrics", "/openapi/v3", "/version"} {
		if code, _, _ := f.try("", "GET", path); code != http.StatusUnauthorized {
			t.Errorf("GET %s without a name: %d, want 401", path, code)
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/healthz", "/readyz/ping"} {
		if code, _, _ := f.try("", "GET", path); code != http.StatusOK {
			t.Errorf("GET %s without a name: %d, want 200", path, code)
		}
	}
}

// Each right is asked for, and dump is the only one that gates the bytes.
func TestRights(t *testing.T) {
	f := start(t)
	k := f.put("shop", "web-0", "app", 1, []byte("core"))
	dumps, endpoints := api+"/namespaces/shop/coredumps", api+"/namespaces/shop/coredumpendpoints"
	one, pod := dumps+"/"+k.Name(), endpoints+"/web-0"
	for _, test := range []struct {
		name   string
		grants []grant
		path   string
		code   int
	}{
		{"nothing: list", nil, dumps, 403},
		{"nothing: get", nil, one, 403},
		{"nothing: dump", nil, one + "/dump", 403},
		{"nothing: what is not there looks the same", nil, dumps + "/nothing", 403},
		{"metadata: list", []grant{{"dev", "list", "coredumps", "shop", ""}}, dumps, 200},
		{"metadata: dump", []grant{{"dev", "get", "coredumps", "shop", ""}}, one + "/dump", 403},
		{"metadata: proxy", []grant{{"dev", "get", "coredumps", "shop", ""}}, one + "/proxy", 403},
		{"dump: dump", []grant{{"dev", "get", "coredumps/dump", "shop", ""}}, one + "/dump", 200},
		{"dump without proxy: proxy", []grant{{"dev", "get", "coredumps/dump", "shop", ""}}, one + "/proxy", 403},
		{"proxy without dump: proxy", []grant{{"dev", "get", "coredumps/proxy", "shop", ""}}, one + "/proxy", 403},
		{"proxy and dump: proxy", []grant{{"dev", "get", "coredumps/proxy", "shop", ""}, {"dev", "get", "coredumps/dump", "shop", ""}}, one + "/proxy", 200},
		{"dump of this one: proxy", []grant{{"dev", "get", "coredumps/proxy", "shop", ""}, {"dev", "get", "coredumps/dump", "shop", k.Name()}}, one + "/proxy", 200},
		{"dump of another one: proxy", []grant{{"dev", "get", "coredumps/proxy", "shop", ""}, {"dev", "get", "coredumps/dump", "shop", "other"}}, one + "/proxy", 403},
		{"dump of another namespace: proxy", []grant{{"dev", "get", "coredumps/proxy", "shop", ""}, {"dev", "get", "coredumps/dump", "bank", ""}}, one + "/proxy", 403},
		{"dump of coredumps: proxy of endpoints", []grant{{"dev", "get", "coredumpendpoints/proxy", "shop", ""}, {"dev", "get", "coredumps/dump", "shop", ""}}, pod + "/proxy", 403},
		{"dump of endpoints: proxy of endpoints", []grant{{"dev", "get", "coredumpendpoints/proxy", "shop", ""}, {"dev", "get", "coredumpendpoints/dump", "shop", ""}}, pod + "/proxy", 200},
		{"metadata in one namespace: list of all", []grant{{"dev", "list", "coredumps", "shop", ""}}, api + "/coredumps", 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			f.allow(test.grants...)
			if test.code == 200 {
				if code, _, data := f.try("dev", "GET", test.path); code != 200 {
					t.Errorf("got %d %s", code, data)
				}
				return
			}
			s, _ := f.refused("dev", test.path, test.code, "forbidden")
			if strings.HasSuffix(test.path, "/proxy") && len(test.grants) > 1 && !strings.Contains(s.Message, "dump") {
				t.Errorf("the message does not name the right that is missing: %s", s.Message)
			}
		})
	}
}

// A namespace that was made again by somebody else does not see the dumps of the earlier one, in no way.
func TestDumpsOfAnotherNamespaceOfTheSameNameAreNotThere(t *testing.T) {
	f := start(t)
	set := func(uid string) func(*v1alpha1.CoreDump) {
		return func(d *v1alpha1.CoreDump) { d.Spec.NamespaceUID = uid }
	}
	mine := f.put("shop", "web-0", "app", 1, []byte("mine"))
	f.put("shop", "web-0", "theirs", 2, []byte("theirs"), set("shop-0"))
	theirs := f.put("shop", "web-1", "app", 3, []byte("theirs"), set("shop-0"))
	unknown := f.put("shop", "web-2", "app", 4, []byte("unknown"), set(""))
	gone := f.put("gone", "web-3", "app", 5, []byte("gone"), set("gone-1"))
	path := api + "/namespaces/shop"

	t.Run("with rights in the namespace", func(t *testing.T) {
		f.allow(append(reader("dev", "shop"), reader("dev", "gone")...)...)
		if got := f.names("dev", path+"/coredumps"); !slices.Equal(got, named(mine)) {
			t.Errorf("list is %v", got)
		}
		if got := f.names("dev", path+"/coredumps?limit=1"); !slices.Equal(got, named(mine)) {
			t.Errorf("page is %v", got)
		}
		if got := f.names("dev", api+"/namespaces/gone/coredumps"); len(got) != 0 {
			t.Errorf("list of a namespace that does not exist is %v", got)
		}
		if got := f.names("dev", path+"/coredumps?fieldSelector=metadata.name%3D"+theirs.Name()); len(got) != 0 {
			t.Errorf("list by name is %v", got)
		}
		missing, _ := f.refused("dev", path+"/coredumps/web-9.app.20260101t000000z-0123456789", 404)
		for _, name := range []string{theirs.Name(), unknown.Name()} {
			for _, sub := range []string{"", "/dump", "/proxy"} {
				s, _ := f.refused("dev", path+"/coredumps/"+name+sub, 404)
				if want := strings.ReplaceAll(missing.Message, "web-9.app.20260101t000000z-0123456789", name); s.Message != want {
					t.Errorf("%s%s: %q tells more than %q", name, sub, s.Message, want)
				}
			}
		}
		f.refused("dev", path+"/coredumpendpoints/web-1", 404)
		f.refused("dev", path+"/coredumpendpoints/web-1/dump", 404)
		f.refused("dev", api+"/namespaces/gone/coredumps/"+gone.Name()+"/dump", 404)
		f.refused("dev", api+"/namespaces/gone/coredumpendpoints/web-3", 404)
		s, _ := f.refused("dev", path+"/coredumpendpoints/web-0/dump?container=theirs", 404, "app")
		if strings.Count(s.Message, "theirs") != 1 {
			t.Errorf("message lists what the user may not see: %s", s.Message)
		}
		var e v1alpha1.CoreDumpEndpoint
		f.get("dev", path+"/coredumpendpoints/web-0", &e)
		if e.Status.Count != 1 || e.Status.Size != 4 || len(e.Status.Containers) != 1 {
			t.Errorf("endpoint counts what the user may not see: %+v", e.Status)
		}
		if got := f.tar("dev", path+"/coredumpendpoints/web-0/dump?format=tar", ""); len(got) != 2 {
			t.Errorf("archive has %v", got)
		}
	})
	t.Run("with rights in all namespaces", func(t *testing.T) {
		f.allow(reader("op", "")...)
		if got := f.names("op", path+"/coredumps"); len(got) != 4 {
			t.Errorf("list is %v", got)
		}
		if got := f.names("op", api+"/coredumps"); len(got) != 5 {
			t.Errorf("list of all is %v", got)
		}
		if code, _, data := f.try("op", "GET", api+"/namespaces/gone/coredumps/"+gone.Name()+"/dump"); code != 200 {
			t.Errorf("dump of a namespace that does not exist: %d %s", code, data)
		}
		if got := f.tar("op", path+"/coredumpendpoints/web-0/dump?format=tar", ""); len(got) != 4 {
			t.Errorf("archive has %v", got)
		}
	})
	// The wider right must be one for the same thing: who may list everywhere may not download everywhere.
	t.Run("with metadata in all namespaces and bytes in one", func(t *testing.T) {
		f.allow(append(reader("dev", "shop"), grant{"dev", "get", "coredumps", "", ""}, grant{"dev", "list", "coredumps", "", ""})...)
		var d v1alpha1.CoreDump
		f.get("dev", path+"/coredumps/"+theirs.Name(), &d)
		f.refused("dev", path+"/coredumps/"+theirs.Name()+"/dump", 404)
		f.refused("dev", path+"/coredumps/"+theirs.Name()+"/proxy", 404)
	})
	// proxy is dump by another name also in all namespaces.
	t.Run("with proxy in all namespaces and dump in one", func(t *testing.T) {
		f.allow(append(reader("dev", "shop"), grant{"dev", "get", "coredumps/proxy", "", ""})...)
		f.refused("dev", path+"/coredumps/"+theirs.Name()+"/proxy", 404)
		f.allow(append(reader("dev", "shop"), grant{"dev", "get", "coredumps/dump", "", ""})...)
		if code, _, data := f.try("dev", "GET", path+"/coredumps/"+theirs.Name()+"/proxy"); code != 200 {
			t.Errorf("got %d %s", code, data)
		}
	})
	t.Run("the namespace is read again each time", func(t *testing.T) {
		f.allow(reader("dev", "shop")...)
		if _, err := f.kube.CoreV1().Namespaces().Update(t.Context(), namespace("shop", "shop-0"), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := f.names("dev", path+"/coredumps"); len(got) != 2 || slices.Contains(got, named(mine)[0]) {
			t.Errorf("list is %v", got)
		}
	})
}

// Who sees only dumps of the living namespace costs no further question.
func TestTheWiderRightIsAskedForOnlyWhereItMatters(t *testing.T) {
	f := start(t)
	f.put("shop", "web-0", "app", 1, []byte("mine"))
	f.allow(reader("dev", "shop")...)
	f.names("dev", api+"/namespaces/shop/coredumps")
	if asked := *f.asked.Load(); len(asked) != 0 {
		t.Errorf("asked for %+v", asked)
	}
	for i := range 3 {
		f.put("shop", "web-0", "app", 10+i, []byte("theirs"), func(d *v1alpha1.CoreDump) { d.Spec.NamespaceUID = "shop-0" })
	}
	f.names("dev", api+"/namespaces/shop/coredumps")
	asked := *f.asked.Load()
	if len(asked) != 1 || asked[0].Namespace != "" || asked[0].Verb != "list" || asked[0].Resource != "coredumps" {
		t.Errorf("asked for %+v, want one question about all namespaces", asked)
	}
}

func TestKubeAPIServerThatCannotBeAskedIs503(t *testing.T) {
	f := start(t)
	k := f.put("shop", "web-0", "app", 1, []byte("core"))
	f.kube.PrependReactor("get", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewInternalError(errors.New("secret-host:6443 is down"))
	})
	for _, path := range []string{"/coredumps", "/coredumps/" + k.Name(), "/coredumps/" + k.Name() + "/dump", "/coredumpendpoints", "/coredumpendpoints/web-0/dump"} {
		s, header := f.refused("admin", api+"/namespaces/shop"+path, 503, "kube-apiserver")
		if header.Get("Retry-After") == "" || s.Reason != metav1.StatusReasonServiceUnavailable || strings.Contains(s.Message, "secret-host") {
			t.Errorf("%s: %+v, Retry-After %q", path, s, header.Get("Retry-After"))
		}
	}
}
