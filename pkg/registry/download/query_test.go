// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package download

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"example.io/coredump/pkg/storage"
)

var (
	now = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	all = Params{ParamContainer, ParamUID, ParamSince, ParamLatest}
)

func TestQuery(t *testing.T) {
	tgz, tzst, plain := formats[0], formats[1], formats[2]
	for _, test := range []struct {
		query, accept string
		want          Query
	}{
		{"", "", Query{Format: tgz}},
		{"", "*/*", Query{Format: tgz}},
		{"", "application/x-tar;q=0, application/zstd;q=0.1", Query{Format: tzst}},
		{"", "Application/X-Tar", Query{Format: plain}},
		{"format=tar.gz", "application/x-tar", Query{Format: tgz}},
		{"timeout=3s&timeout=4s", "", Query{Format: tgz}},
		{"container=app&uid=A-1&since=90m&latest=10", "", Query{tgz, "app", "A-1", now.Add(-90 * time.Minute), 10}},
		{"since=2026-06-30T00:00:00Z", "", Query{Format: tgz, Since: now.Add(-36 * time.Hour)}},
	} {
		got, err := ParseQuery(test.query, test.accept, all, now)
		if err != nil || got != test.want {
			t.Errorf("%q, %q: %+v, %v, want %+v", test.query, test.accept, got, err, test.want)
		}
	}
}

// FuzzQuery: a query is refused with a bounded 400, or it is within what everything behind it relies on.
func FuzzQuery(f *testing.F) {
	for _, q := range []string{"", "format=tar&container=a&uid=b&since=1h&latest=1", "since=2026-07-01T11:30:00%2B02:00", "container=..%2f", "latest=-1", "a;b", "%zz", "format=tar&format=tar",
		"since=9999999h", "since=0001-01-01T00:00:00Z", "x=\x00"} {
		f.Add(q, "application/zstd;q=0.3")
	}
	f.Fuzz(func(t *testing.T, query, accept string) {
		q, err := ParseQuery(query, accept, all, now)
		if err != nil {
			s, ok := err.(apierrors.APIStatus)
			if !ok || s.Status().Code != http.StatusBadRequest {
				t.Fatalf("%q: %v is no 400", query, err)
			}
			return
		}
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatalf("%q was accepted: %v", query, err)
		}
		if !slices.Contains(formats, q.Format) || q.Latest < 0 || q.Latest > maxDumps ||
			q.Container != values.Get("container") || q.Container != "" && !storage.ValidContainer(q.Container) ||
			q.UID != values.Get("uid") || strings.ContainsFunc(q.UID, func(r rune) bool { return r < '-' || r > 'z' }) {
			t.Errorf("%q: %+v", query, q)
		}
	})
}
