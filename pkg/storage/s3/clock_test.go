// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestServerTimeIsTheStoresAndNotOurs(t *testing.T) {
	want := time.Date(2020, 2, 29, 12, 0, 0, 0, time.UTC)
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", want.Format(http.TimeFormat))
	}))
	defer store.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	b, err := Open(t.Context(), Options{Bucket: "b", Endpoint: store.URL, PathStyle: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.ServerTime(t.Context()); err != nil || !got.Equal(want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}
