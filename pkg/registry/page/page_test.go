// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package page

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
)

const key = "shop/web-0/app/20260701t120000z-0123456789.json"

func TestTokenLeadsToTheNextPage(t *testing.T) {
	version := fmt.Sprint(42 << 20)
	first, err := Of(&metainternalversion.ListOptions{Limit: 2}, "shop", time.Unix(0, 42<<20))
	if err != nil || first.Limit != 2 || first.After != "" || first.ResourceVersion != version {
		t.Fatalf("%+v, %v", first, err)
	}
	if first.Full(1) || !first.Full(2) || (Page{}).Full(1_000_000) {
		t.Error("Full is wrong")
	}
	meta := first.Meta(key, 7)
	for _, namespace := range []string{"shop", ""} {
		next, err := Of(&metainternalversion.ListOptions{Limit: 3, Continue: meta.Continue}, namespace, time.Unix(0, 99))
		if err != nil || next.Limit != 3 || next.After != key || next.Meta("", 7).ResourceVersion != version {
			t.Errorf("%+v, %v", next, err)
		}
	}
	if meta := first.Meta("", 7); meta.Continue != "" || meta.ResourceVersion != fmt.Sprint(42<<20+7) {
		t.Errorf("a page that is all there is has %+v", meta)
	}
}

// Informers that do not know of WatchList list like that, and then watch: the resource version has to tell all they have seen.
func TestAListOfAnyVersionIsNotCut(t *testing.T) {
	p, err := Of(&metainternalversion.ListOptions{Limit: 2, ResourceVersion: "0"}, "shop", time.Now())
	if err != nil || p.Full(1000) {
		t.Errorf("%+v, %v", p, err)
	}
}

// FuzzContinue: a token is refused with a Status, or it continues within the namespace.
func FuzzContinue(f *testing.F) {
	for _, s := range []string{`{"v":1,"rv":"1","after":"` + key + `"}`, `{"v":1,"rv":"0","after":"` + key + `"}`, `{"v":9}`, `{"v":1,"rv":"1","after":"bank/web-0/app/20260701t120000z-0123456789.json"}`,
		`{"v":1,"rv":"1","after":"shop/../bank"}`, `[]`, ``, `{"v":1,"rv":"1","after":"shop/web-0/app/20260701t120000z-0123456789.core.zst"}`} {
		f.Add(base64.RawURLEncoding.EncodeToString([]byte(s)))
	}
	f.Add("!")
	f.Fuzz(func(t *testing.T, token string) {
		p, err := Of(&metainternalversion.ListOptions{Continue: token}, "shop", time.Unix(0, 42))
		if err != nil {
			if !apierrors.IsBadRequest(err) && !apierrors.IsResourceExpired(err) || len(err.Error()) > 4096 {
				t.Errorf("%q: %v", token, err)
			}
			return
		}
		if token != "" && !strings.HasPrefix(p.After, "shop/") || p.ResourceVersion == "" || p.ResourceVersion[0] == '0' {
			t.Errorf("%q: %+v", token, p)
		}
	})
}
