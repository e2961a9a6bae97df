// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/storagetest"
)

func TestAURLReadsItsObjectAndNoOther(t *testing.T) {
	s := storagetest.StartS3(t)
	s.Setenv(t)
	opts := options(t, s)
	opts.Prefix = "some/prefix"
	b := open(t, opts)
	for _, key := range []string{"ns/object", "ns/other"} {
		if _, err := b.Put(t.Context(), key, strings.NewReader("content of "+key), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	url, err := b.Presign(t.Context(), "ns/object", time.Minute)
	if err != nil || !strings.Contains(url, "X-Amz-Expires=60&") {
		t.Fatalf("%q, %v", url, err)
	}
	get := func(method, url string, header ...string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(data)
	}
	if code, data := get("GET", url); code != 200 || data != "content of ns/object" {
		t.Errorf("%d %s", code, data)
	}
	if code, data := get("GET", url, "Range", "bytes=11-"); code != 206 || data != "ns/object" {
		t.Errorf("a range: %d %s", code, data)
	}
	for name, test := range map[string][2]string{
		"another object":  {"GET", strings.Replace(url, "object", "other", 1)},
		"a longer time":   {"GET", strings.Replace(url, "Expires=60", "Expires=6000", 1)},
		"to overwrite it": {"PUT", url},
		"to remove it":    {"DELETE", url},
	} {
		if code, data := get(test[0], test[1]); code != 403 {
			t.Errorf("%s: %d %s", name, code, data)
		}
	}
	if _, err := b.Presign(t.Context(), "../x", time.Minute); !errors.Is(err, storage.ErrInvalid) {
		t.Errorf("a key that is none: %v", err)
	}
}
