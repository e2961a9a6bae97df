// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/storagetest"
)

var buckets atomic.Int64

// options are those of a new bucket on the server, with the smallest parts, so that little data makes many.
func options(t *testing.T, s *storagetest.S3) Options {
	t.Helper()
	name := fmt.Sprintf("bucket-%d", buckets.Add(1))
	if err := os.Mkdir(filepath.Join(s.Dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	return Options{Bucket: name, Endpoint: s.Endpoint, PathStyle: true, CAFile: s.CAFile, PartSize: MinPartSize}
}

func open(t *testing.T, opts Options) *Bucket {
	t.Helper()
	b, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBucket(t *testing.T) {
	s := storagetest.StartS3(t)
	s.Setenv(t)
	storagetest.Run(t, func(t *testing.T) storage.Bucket { return open(t, options(t, s)) })
}

func TestBucketBelowAPrefixOverTLS(t *testing.T) {
	s := storagetest.StartS3With(t, storagetest.S3Options{TLS: true})
	s.Setenv(t)
	storagetest.Run(t, func(t *testing.T) storage.Bucket {
		opts := options(t, s)
		// What is beside the prefix is not ours: the suite must not see it.
		for _, prefix := range []string{"", "some", "some/prefix-2", "some/prefi"} {
			opts.Prefix = prefix
			if _, err := open(t, opts).Put(t.Context(), "ns/foreign", storagetest.Stream(nil), storage.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		opts.Prefix = "some/prefix"
		return open(t, opts)
	})
}

func TestEveryChecksum(t *testing.T) {
	s := storagetest.StartS3(t)
	s.Setenv(t)
	for _, name := range Checksums() {
		t.Run(name, func(t *testing.T) {
			opts := options(t, s)
			opts.Checksum = name
			b := open(t, opts)
			for _, size := range []int{0, 100, 5 * mib, 11 * mib} {
				key, data := fmt.Sprintf("ns/%d", size), storagetest.Bytes(size)
				obj, err := b.Put(t.Context(), key, storagetest.Stream(data), storage.PutOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(obj.Checksum, name+":") {
					t.Errorf("%d bytes: the store confirmed %q", size, obj.Checksum)
				}
				if got := readAll(t, b, key); !bytes.Equal(got, data) {
					t.Errorf("%d bytes: %d were read, or others", size, len(got))
				}
				stat, err := b.Stat(t.Context(), key)
				if err != nil || name != "md5" && stat.Checksum != obj.Checksum {
					t.Errorf("%d bytes: stat says %q, %v, put said %q", size, stat.Checksum, err, obj.Checksum)
				}
				if failed, err := b.Delete(t.Context(), key); err != nil {
					t.Error(failed, err)
				}
			}
		})
	}
}

// capture is a store that confirms everything and remembers the requests.
func capture(t *testing.T) (endpoint string, requests func() []*http.Request) {
	var mu sync.Mutex
	var seen []*http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		seen = append(seen, r)
		mu.Unlock()
		w.Header().Set("ETag", `"x"`)
		w.Header().Set("X-Amz-Checksum-Crc64nvme", r.Header.Get("X-Amz-Checksum-Crc64nvme"))
		w.Header().Set("Content-Type", "application/xml")
		switch operation(r) {
		case "create":
			_, _ = io.WriteString(w, `<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>`)
		case "complete":
			fmt.Fprintf(w, `<CompleteMultipartUploadResult><ETag>"x"</ETag><ChecksumCRC64NVME>%s</ChecksumCRC64NVME></CompleteMultipartUploadResult>`, r.Header.Get("X-Amz-Checksum-Crc64nvme"))
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []*http.Request { mu.Lock(); defer mu.Unlock(); return seen }
}

func TestWhatIsAskedOfTheStore(t *testing.T) {
	(&storagetest.S3{}).SetenvOf(t, "access", "secret")
	endpoint, requests := capture(t)
	b := open(t, Options{Bucket: "bucket", Prefix: "pre", Endpoint: endpoint, PathStyle: true, PartSize: MinPartSize, SSE: "aws:kms", KMSKeyID: "the-key", StorageClass: "STANDARD_IA"})
	put(t, b, "ns/small", []byte("x"))
	if _, err := b.Put(t.Context(), "ns/large", storagetest.Stream(storagetest.Bytes(11*mib)), storage.PutOptions{IfAbsent: true, ContentType: "application/x-core"}); err != nil {
		t.Fatal(err)
	}
	operations := map[string]int{}
	for _, r := range requests() {
		op, h := operation(r), r.Header
		operations[op]++
		if !strings.HasPrefix(r.URL.Path, "/bucket/pre/ns/") {
			t.Errorf("%s goes to %s", op, r.URL.Path)
		}
		want := map[string]string{}
		switch op {
		case "put", "create":
			want = map[string]string{"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "the-key", "X-Amz-Storage-Class": "STANDARD_IA"}
		case "complete":
			want = map[string]string{"X-Amz-Mp-Object-Size": fmt.Sprint(11 * mib), "X-Amz-Checksum-Type": "FULL_OBJECT", "If-None-Match": "*"}
		}
		if op == "create" {
			want["X-Amz-Checksum-Algorithm"], want["X-Amz-Checksum-Type"], want["Content-Type"] = "CRC64NVME", "FULL_OBJECT", "application/x-core"
		} else if h.Get("X-Amz-Checksum-Crc64nvme") == "" {
			t.Errorf("%s has no checksum", op)
		}
		for name, value := range want {
			if h.Get(name) != value {
				t.Errorf("%s has %s: %q, want %q", op, name, h.Get(name), value)
			}
		}
	}
	// Who may only write must be able to do all of it: nothing is read, or asked, or listed.
	if want := map[string]int{"put": 1, "create": 1, "part": 3, "complete": 1}; !maps.Equal(operations, want) {
		t.Errorf("got the requests %v, want %v", operations, want)
	}
}

func TestPartsFitIntoAnUploadAndIntoMemory(t *testing.T) {
	const gib, tib = 1 << 30, 1 << 40
	opts := Options{PartSize: DefaultPartSize, Concurrency: DefaultConcurrency}
	for _, maxSize := range []int64{0, 1, 100 * mib, 78 * gib, 79 * gib, 100 * gib, 150 * gib, 500 * gib, 5 * tib, 48 * tib} {
		size, concurrency := opts.parts(maxSize)
		if size < opts.PartSize || size*maxParts < maxSize || concurrency < 1 || concurrency > opts.Concurrency {
			t.Errorf("for %d bytes: %d parts of %d", maxSize, concurrency, size)
		}
		if memory, limit := int64(concurrency+1)*size, max(int64(opts.Concurrency+1)*opts.PartSize, 2*size); memory > limit {
			t.Errorf("for %d bytes: %d parts of %d take %d bytes, the limit is %d", maxSize, concurrency, size, memory, limit)
		}
		if maxSize <= 78*gib && (size != opts.PartSize || concurrency != opts.Concurrency) {
			t.Errorf("for %d bytes: %d parts of %d, want those configured", maxSize, concurrency, size)
		}
	}
	(&storagetest.S3{}).SetenvOf(t, "access", "secret")
	_, err := open(t, Options{Bucket: "bucket", Endpoint: "http://127.0.0.1:1"}).Put(t.Context(), "ns/key", failingReader{}, storage.PutOptions{MaxSize: 1<<63 - 1})
	storagetest.IsError(t, err, storage.ErrInvalid, "ns/key")
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { panic("must not be read") }

func TestNoMorePartsAreSentAtATimeThanAreConfigured(t *testing.T) {
	(&storagetest.S3{}).SetenvOf(t, "access", "secret")
	endpoint, _ := capture(t)
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	const concurrency = 2
	var running, read atomic.Int64
	arrived, hold := make(chan struct{}, 100), make(chan struct{})
	proxy := httputil.NewSingleHostReverseProxy(target)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if operation(r) == "part" {
			if n := running.Add(1); n > concurrency {
				t.Errorf("%d parts at a time", n)
			}
			arrived <- struct{}{}
			<-hold
			defer running.Add(-1)
		}
		proxy.ServeHTTP(w, r)
	}))
	defer front.Close()
	b := open(t, Options{Bucket: "bucket", Endpoint: front.URL, PathStyle: true, PartSize: MinPartSize, Concurrency: concurrency})
	done := make(chan error)
	go func() {
		_, err := b.Put(t.Context(), "ns/key", counting{storagetest.Stream(storagetest.Bytes(40 * mib)), &read}, storage.PutOptions{})
		done <- err
	}()
	<-arrived
	<-arrived
	if n := read.Load(); n > (concurrency+1)*MinPartSize {
		t.Errorf("%d bytes have been read while %d parts are under way", n, concurrency)
	}
	close(hold)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type counting struct {
	r io.Reader
	n *atomic.Int64
}

func (c counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func TestWhoIsNotLetInIsDenied(t *testing.T) {
	s := storagetest.StartS3(t)
	opts := options(t, s)
	s.SetenvOf(t, s.AccessKey, "wrong")
	b := open(t, opts)
	if err := b.Ping(t.Context()); !errors.Is(err, storage.ErrDenied) {
		t.Errorf("ping: got %v, want %v", err, storage.ErrDenied)
	}
	_, err := b.Stat(t.Context(), "ns/key")
	storagetest.IsError(t, err, storage.ErrDenied, "ns/key")
	_, err = b.Open(t.Context(), "ns/key", "", 0, -1)
	storagetest.IsError(t, err, storage.ErrDenied, "ns/key")
	_, err = b.Put(t.Context(), "ns/key", strings.NewReader("x"), storage.PutOptions{})
	storagetest.IsError(t, err, storage.ErrDenied, "ns/key")

	s.Setenv(t)
	opts.Bucket = "missing"
	b = open(t, opts)
	if err := b.Ping(t.Context()); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a bucket that does not exist: got %v, want %v", err, storage.ErrNotFound)
	}
	_, err = b.Put(t.Context(), "ns/key", strings.NewReader("x"), storage.PutOptions{})
	storagetest.IsError(t, err, storage.ErrNotFound, "ns/key")
	for _, err := range b.List(t.Context(), "ns/", "") {
		storagetest.IsError(t, err, storage.ErrNotFound, "ns/")
	}
}

func TestWithoutCredentialsTheStoreIsUnavailable(t *testing.T) {
	(&storagetest.S3{}).SetenvOf(t, "", "")
	b := open(t, Options{Bucket: "bucket", Endpoint: "http://127.0.0.1:1", Attempts: 1})
	_, err := b.Stat(t.Context(), "ns/key")
	if storagetest.IsError(t, err, storage.ErrUnavailable, "ns/key"); !strings.Contains(err.Error(), "credentials") {
		t.Errorf("it does not say what is missing: %v", err)
	}
}

func TestACertificateOfAnUnknownAuthorityIsRefused(t *testing.T) {
	s := storagetest.StartS3With(t, storagetest.S3Options{TLS: true})
	s.Setenv(t)
	opts := options(t, s)
	opts.CAFile, opts.Attempts = "", 1
	if err := open(t, opts).Ping(t.Context()); !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v", err)
	}
}

func BenchmarkPut(b *testing.B) {
	s := storagetest.StartS3(b)
	s.Setenv(b)
	name := "bench"
	if err := os.Mkdir(filepath.Join(s.Dir, name), 0o700); err != nil {
		b.Fatal(err)
	}
	bucket, err := Open(b.Context(), Options{Bucket: name, Endpoint: s.Endpoint, PathStyle: true})
	if err != nil {
		b.Fatal(err)
	}
	data := storagetest.Bytes(256 * mib)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bucket.Put(b.Context(), "ns/key", storagetest.Stream(data), storage.PutOptions{MaxSize: int64(len(data))}); err != nil {
			b.Fatal(err)
		}
	}
}
