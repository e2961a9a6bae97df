// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
)

// large is more than what fits into all buffers and windows between server and client.
const large = 48 << 20

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// protocols runs a test over HTTP/1.1 and HTTP/2.
func protocols(t *testing.T, test func(t *testing.T, client *http.Client)) {
	for name, http2 := range map[string]bool{"HTTP1": false, "HTTP2": true} {
		t.Run(name, func(t *testing.T) {
			tr := transport(http2)
			defer tr.CloseIdleConnections()
			test(t, &http.Client{Transport: tr})
		})
	}
}

// metric gives the value of a metric, 0 where it is not there.
func (f *fixture) metric(name string) float64 {
	_, _, data := f.try("admin", "GET", "/metrics")
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(data)
	if m == nil {
		return 0
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

func downloads(result, format string) string {
	return fmt.Sprintf("coredump_apiserver_downloads_total{format=%q,result=%q}", format, result)
}

// begin starts a download and reads its first byte.
func (f *fixture) begin(client *http.Client, path string) io.ReadCloser {
	f.t.Helper()
	resp, err := f.do(client, "admin", "GET", path)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil || resp.StatusCode != 200 {
		f.t.Fatalf("GET %s: %s, %v", path, resp.Status, err)
	}
	return resp.Body
}

// A reader that is cut off must notice: by the connection, and by the archive.
func TestStoreThatFailsInTheMiddleAbortsTheConnection(t *testing.T) {
	f := start(t)
	const size = 4 << 20
	k := f.put("shop", "web-0", "app", 2, random(size))
	f.put("shop", "web-0", "app", 1, random(size))
	second := f.put("shop", "web-1", "app", 1, random(size))
	f.overwrite(second.Body(storage.CodecZstd), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	f.store.Cut = func(key string) (int64, error) {
		if strings.HasPrefix(key, k.Dir()+k.ID) && strings.Contains(key, ".core") {
			return size / 2, &storage.Error{Op: "read", Key: key, Kind: storage.ErrDenied, Err: errors.New("the credentials ended")} // nothing that going on would help
		}
		return 0, nil
	}
	formats := map[string]storage.Codec{"tar.gz": storage.CodecGzip, "tar.zst": storage.CodecZstd, "tar": storage.CodecNone, "core": storage.CodecNone, "core.zst": storage.CodecZstd}
	protocols(t, func(t *testing.T, client *http.Client) {
		for format, codec := range formats {
			for _, object := range []string{"coredumps/" + k.Name(), "coredumpendpoints/web-0", "coredumps/" + second.Name()} {
				if strings.HasPrefix(format, "core") && !strings.HasPrefix(object, "coredumps/") {
					continue
				}
				before := f.metric(downloads("store_failed", format))
				var data []byte
				resp, err := f.do(client, "admin", "GET", api+"/namespaces/shop/"+object+"/dump?format="+format)
				if err == nil { // otherwise it was aborted before the first byte had left
					data, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				if err == nil {
					t.Errorf("%s of %s ends clean after %d bytes", format, object, len(data))
				}
				if plain, err := codec.NewReader(bytes.NewReader(data)); err == nil && codec != storage.CodecNone {
					if _, err := io.Copy(io.Discard, plain); err == nil {
						t.Errorf("%s of %s decompresses clean", format, object)
					}
				}
				f.eventually("the count of "+format, func() bool { return f.metric(downloads("store_failed", format)) == before+1 })
			}
		}
	})
}

func TestCoreThatIsNotTheOneOfItsRecordIsRefused(t *testing.T) {
	f := start(t)
	k := f.put("shop", "web-0", "app", 1, []byte("core"), func(d *v1alpha1.CoreDump) { d.Status.SHA256 = strings.Repeat("0", 64) })
	f.refused("admin", api+"/namespaces/shop/coredumps/"+k.Name()+"/dump", 500, "SHA-256")
}

func TestTooManyDownloadsAre429(t *testing.T) {
	f := start(t, func(c *Config) { c.MaxConcurrentDownloads = 2 })
	k := f.put("shop", "web-0", "app", 1, random(large))
	path := api + "/namespaces/shop/coredumps/" + k.Name() + "/dump?format=tar"
	first, second := f.begin(f.client, path), f.begin(f.client, path)
	before := f.metric("coredump_apiserver_download_rejected_total")
	if n := f.metric("coredump_apiserver_downloads_inflight"); n != 2 {
		t.Errorf("%v downloads are counted as running", n)
	}
	for _, sub := range []string{"/dump", "/proxy"} {
		_, h := f.refused("admin", api+"/namespaces/shop/coredumpendpoints/web-0"+sub, 429, "2 downloads")
		if h.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	if n := f.metric("coredump_apiserver_download_rejected_total"); n != before+2 {
		t.Errorf("%v were counted, want 2", n-before)
	}
	// Lists are not downloads.
	f.names("admin", api+"/namespaces/shop/coredumps")
	// What ends gives its place back, however it ends.
	if _, err := io.Copy(io.Discard, first); err != nil {
		t.Error(err)
	}
	first.Close()
	f.begin(f.client, path).Close()
	second.Close()
	f.eventually("free places", func() bool { return f.metric("coredump_apiserver_downloads_inflight") == 0 })
}

// A client that stands still does not hold its place for ever. It sees an error when it goes on.
func TestClientThatStandsStillIsCutOff(t *testing.T) {
	f := start(t, func(c *Config) { c.MaxConcurrentDownloads, c.StallTimeout = 1, 300*time.Millisecond })
	k := f.put("shop", "web-0", "app", 1, random(large))
	protocols(t, func(t *testing.T, client *http.Client) {
		for _, format := range []string{"tar", "tar.gz", "tar.zst"} {
			path := api + "/namespaces/shop/coredumps/" + k.Name() + "/dump?format=" + format
			before := f.metric(downloads("client_stalled", format))
			body := f.begin(client, path)
			f.eventually("a free place", func() bool {
				code, _, _ := f.try("admin", "HEAD", path)
				return code == 200
			})
			if n, err := io.Copy(io.Discard, body); err == nil {
				t.Errorf("%s: the answer ends clean after %d bytes", format, n)
			}
			body.Close()
			if n := f.metric(downloads("client_stalled", format)); n != before+1 {
				t.Errorf("%s: counted %v times as stalled", format, n-before)
			}
		}
		// One that goes on is not cut off, and its connection serves the next request.
		for range 2 {
			body := f.begin(client, api+"/namespaces/shop/coredumps/"+k.Name()+"/dump?format=tar")
			if _, err := io.Copy(io.Discard, body); err != nil {
				t.Errorf("a client that goes on got %v", err)
			}
			body.Close()
			f.eventually("a free place", func() bool { return f.metric("coredump_apiserver_downloads_inflight") == 0 })
		}
	})
}

// stuck is a store that opens bodies and then gives nothing until the request ends.
type stuck struct{ storage.Bucket }

func (s *stuck) Open(ctx context.Context, key, etag string, offset, length int64) (io.ReadCloser, error) {
	r, err := s.Bucket.Open(ctx, key, etag, offset, length)
	if err != nil || !strings.Contains(key, ".core") {
		return r, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r, 1<<20), untilDone{ctx}), r}, nil
}

type untilDone struct{ ctx context.Context }

func (u untilDone) Read([]byte) (int, error) {
	<-u.ctx.Done()
	return 0, u.ctx.Err()
}

func TestStoreThatStandsStillIsGivenUp(t *testing.T) {
	f := start(t, func(c *Config) {
		c.StallTimeout = 300 * time.Millisecond
		c.Bucket = &stuck{c.Bucket}
	})
	k := f.put("shop", "web-0", "app", 1, random(4<<20))
	before := f.metric(downloads("store_failed", "tar"))
	body := f.begin(f.client, api+"/namespaces/shop/coredumps/"+k.Name()+"/dump?format=tar")
	defer body.Close()
	if n, err := io.Copy(io.Discard, body); err == nil {
		t.Errorf("the answer ends clean after %d bytes", n)
	}
	f.eventually("the count", func() bool { return f.metric(downloads("store_failed", "tar")) == before+1 })
}

// Compressors have goroutines of their own; whatever becomes of a download, they end.
func TestNothingIsLeftOfAbortedDownloads(t *testing.T) {
	f := start(t)
	k := f.put("shop", "web-0", "app", 1, random(large))
	path := api + "/namespaces/shop/coredumps/" + k.Name() + "/dump?format="
	f.begin(f.client, path+"tar.gz").Close()
	f.eventually("the first end", func() bool { return f.metric("coredump_apiserver_downloads_inflight") == 0 })
	before := runtime.NumGoroutine()
	const times = 20
	for i := range times {
		f.begin(f.client, path+[]string{"tar.gz", "tar.zst"}[i%2]).Close()
		f.eventually("the end", func() bool { return f.metric("coredump_apiserver_downloads_inflight") == 0 })
	}
	f.eventually("as many goroutines as before", func() bool { return runtime.NumGoroutine() < before+times/4 })
}

// What runs when the server is told to stop ends complete; from then on the server is not ready, and soon takes nothing new.
func TestShutdownWaitsForDownloads(t *testing.T) {
	protocols(t, func(t *testing.T, client *http.Client) {
		f := start(t)
		core := random(large)
		k := f.put("shop", "web-0", "app", 1, core)
		body := f.begin(client, api+"/namespaces/shop/coredumps/"+k.Name()+"/dump?format=tar")
		f.stop()
		f.client.CloseIdleConnections()
		f.eventually("the end of the listener", func() bool {
			_, err := f.do(&http.Client{Transport: transport(true)}, "admin", "GET", "/version")
			return err != nil
		})
		select {
		case <-f.ended:
			t.Fatal("the server ended before the download")
		default:
		}
		rest, err := io.ReadAll(body)
		if err != nil || !bytes.Contains(rest, core) {
			t.Errorf("the download ended with %v after %d bytes", err, len(rest))
		}
		body.Close()
		client.CloseIdleConnections()
		<-f.ended
	})
}

func TestShutdownDoesNotWaitForEver(t *testing.T) {
	f := start(t, func(c *Config) { c.DrainTimeout = 100 * time.Millisecond })
	k := f.put("shop", "web-0", "app", 1, random(large))
	body := f.begin(f.client, api+"/namespaces/shop/coredumps/"+k.Name()+"/dump?format=tar")
	defer body.Close()
	f.stop()
	<-f.ended
}

// The generic API server ends requests after RequestTimeout, except those it takes for long-running ones.
func TestDownloadsOutliveTheRequestTimeout(t *testing.T) {
	const timeout = 200 * time.Millisecond
	f := start(t, func(c *Config) { c.Generic.RequestTimeout = timeout })
	f.put("shop", "web-0", "app", 1, random(large))
	for _, sub := range []string{"dump", "proxy"} {
		begin := time.Now()
		body := f.begin(f.client, api+"/namespaces/shop/coredumpendpoints/web-0/"+sub+"?format=tar")
		f.eventually("the timeout", func() bool { return time.Since(begin) > 3*timeout })
		if n, err := io.Copy(io.Discard, body); err != nil {
			t.Errorf("%s ends with %v after %d bytes", sub, err, n)
		}
		body.Close()
	}
}
