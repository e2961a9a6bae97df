// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
)

// BenchmarkLists is for profiles of lists of 10,000 dumps whose records are in the cache: as JSON in one piece, as a table in one piece, and as kubectl gets tables. How they
// compare with others is measured by test/bench.
func BenchmarkLists(b *testing.B) {
	f := start(b, func(c *Config) { c.RecordCacheSize = 256 << 20 })
	for i := range 10_000 {
		at := now.Add(-time.Duration(i) * time.Second)
		k := storage.Key{Namespace: "shop", Pod: fmt.Sprintf("web-%04d", i/10), Container: "app", ID: storage.NewID(at, fmt.Sprint(i))}
		d := &v1alpha1.CoreDump{}
		d.Labels = map[string]string{"app.kubernetes.io/name": "web", "pod-template-hash": "5d8f7c9b4"}
		d.APIVersion, d.Kind, d.Namespace, d.Name = v1alpha1.SchemeGroupVersion.String(), "CoreDump", k.Namespace, k.Name()
		d.Spec = v1alpha1.CoreDumpSpec{PodName: k.Pod, PodUID: k.Pod + "-uid", NamespaceUID: "shop-1", ContainerName: k.Container, NodeName: "node-1",
			Process: v1alpha1.Process{Executable: "/usr/bin/server", PID: int64(i), Signal: 11, SignalName: "SIGSEGV", Time: metav1.NewTime(at)}}
		d.Status = v1alpha1.CoreDumpStatus{Size: 1 << 30, StoredSize: 1 << 28, Codec: "zst", SHA256: fmt.Sprintf("%064x", i)}
		data, err := storage.EncodeRecord(k, d)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.store.Bucket.Put(b.Context(), k.Record(), bytes.NewReader(data), storage.PutOptions{MaxSize: int64(len(data))}); err != nil {
			b.Fatal(err)
		}
	}
	get := func(query string, header ...string) *http.Response {
		resp, err := f.do(f.client, "admin", "GET", shopDumps+query, header...)
		if err != nil {
			b.Fatal(err)
		}
		return resp
	}
	whole := func(header ...string) {
		resp := get("", header...)
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			b.Fatal(err)
		}
	}
	whole() // fills the cache
	b.Run("JSON", func(b *testing.B) {
		for b.Loop() {
			whole()
		}
	})
	b.Run("table", func(b *testing.B) {
		for b.Loop() {
			whole("Accept", asTable)
		}
	})
	b.Run("tables of 500", func(b *testing.B) {
		for b.Loop() {
			for token := ""; ; {
				resp := get("?limit=500&continue="+url.QueryEscape(token), "Accept", asTable)
				var page metav1.Table
				err := json.NewDecoder(resp.Body).Decode(&page)
				resp.Body.Close()
				if err != nil {
					b.Fatal(err)
				}
				if token = page.Continue; token == "" {
					break
				}
			}
		}
	})
}
