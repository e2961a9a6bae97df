// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
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
	"time"

	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/storagetest"
)

const mib = 1 << 20

// faulty is a bucket behind a proxy that fails on demand. The requests of the test's own client go past it.
type faulty struct {
	*Bucket
	direct *Bucket
	server *storagetest.S3
	// fault handles a request if it returns true.
	fault atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]
	// answer changes an answer.
	answer atomic.Pointer[func(resp *http.Response)]
}

func openFaulty(t *testing.T, change func(*Options)) *faulty {
	t.Helper()
	s := storagetest.StartS3(t)
	s.Setenv(t)
	opts := options(t, s)
	opts.Timeout = 5 * time.Second
	f := &faulty{server: s, direct: open(t, opts)}
	target, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		ModifyResponse: func(resp *http.Response) error {
			if change := f.answer.Load(); change != nil {
				(*change)(resp)
			}
			return nil
		},
		ErrorLog:     log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) },
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault := f.fault.Load(); fault != nil && (*fault)(w, r) {
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	opts.Endpoint = front.URL
	if change != nil {
		change(&opts)
	}
	f.Bucket = open(t, opts)
	return f
}

func (f *faulty) failOn(fault func(w http.ResponseWriter, r *http.Request) bool) {
	f.fault.Store(&fault)
}

func (f *faulty) noUploads(t *testing.T) {
	t.Helper()
	for u, err := range f.direct.Uploads(t.Context()) {
		t.Errorf("an upload is left: %+v, %v", u, err)
	}
}

func operation(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodPut && q.Has("partNumber"):
		return "part"
	case r.Method == http.MethodPut:
		return "put"
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "create"
	case r.Method == http.MethodPost && q.Has("uploadId"):
		return "complete"
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return "abort"
	}
	return r.Method
}

func fail(w http.ResponseWriter, status int, code string) bool {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>because</Message></Error>`, code)
	return true
}

func cut(http.ResponseWriter) bool { panic(http.ErrAbortHandler) }

func TestKindsOfFailedUploads(t *testing.T) {
	f := openFaulty(t, func(o *Options) { o.Attempts = 2 })
	for _, c := range []struct {
		name      string
		operation string
		fault     func(w http.ResponseWriter) bool
		want      error
	}{
		{"the connection breaks at a part", "part", cut, storage.ErrUnavailable},
		{"500 to a part", "part", func(w http.ResponseWriter) bool { return fail(w, 500, "InternalError") }, storage.ErrUnavailable},
		{"503 SlowDown to a part", "part", func(w http.ResponseWriter) bool { return fail(w, 503, "SlowDown") }, storage.ErrUnavailable},
		{"429 to a put", "put", func(w http.ResponseWriter) bool { return fail(w, 429, "TooManyRequests") }, storage.ErrUnavailable},
		{"502 that is no XML", "put", func(w http.ResponseWriter) bool { http.Error(w, "<html>bad gateway", 502); return true }, storage.ErrUnavailable},
		{"the connection breaks at the completion", "complete", cut, storage.ErrUnavailable},
		{"200 with an error in it to the completion", "complete", func(w http.ResponseWriter) bool { return fail(w, 200, "InternalError") }, storage.ErrUnavailable},
		{"200 with nothing in it to the completion", "complete", func(w http.ResponseWriter) bool { w.WriteHeader(200); return true }, storage.ErrUnavailable},
		{"403 to the creation", "create", func(w http.ResponseWriter) bool { return fail(w, 403, "AccessDenied") }, storage.ErrDenied},
		{"403 to a part", "part", func(w http.ResponseWriter) bool { return fail(w, 403, "AccessDenied") }, storage.ErrDenied},
		{"400 BadDigest to a part", "part", func(w http.ResponseWriter) bool { return fail(w, 400, "BadDigest") }, storage.ErrCorrupt},
		{"400 BadDigest to a put", "put", func(w http.ResponseWriter) bool { return fail(w, 400, "BadDigest") }, storage.ErrCorrupt},
		{"400 ExpiredToken to a put", "put", func(w http.ResponseWriter) bool { return fail(w, 400, "ExpiredToken") }, storage.ErrDenied},
		{"404 NoSuchBucket to a put", "put", func(w http.ResponseWriter) bool { return fail(w, 404, "NoSuchBucket") }, storage.ErrNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			var times atomic.Int64
			f.failOn(func(w http.ResponseWriter, r *http.Request) bool {
				if operation(r) != c.operation {
					return false
				}
				times.Add(1)
				_, _ = io.Copy(io.Discard, r.Body)
				return c.fault(w)
			})
			size := 11 * mib
			if c.operation == "put" {
				size = 100
			}
			_, err := f.Put(t.Context(), "ns/key", storagetest.Stream(storagetest.Bytes(size)), storage.PutOptions{})
			storagetest.IsError(t, err, c.want, "ns/key")
			if n := times.Load(); n == 0 || c.operation != "part" && n > 2 {
				t.Errorf("there were %d attempts", n)
			}
			f.noUploads(t)
			if _, err := f.direct.Stat(t.Context(), "ns/key"); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("the object: got %v, want %v", err, storage.ErrNotFound)
			}
		})
	}
}

func TestAnUploadSurvivesAFaultNowAndThen(t *testing.T) {
	f := openFaulty(t, nil)
	var mu sync.Mutex
	seen := map[string]bool{}
	f.failOn(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if key := operation(r) + r.URL.Query().Get("partNumber"); !seen[key] { // once for each part
			seen[key] = true
			return fail(w, 503, "SlowDown")
		}
		return false
	})
	data := storagetest.Bytes(17 * mib)
	if _, err := f.Put(t.Context(), "ns/key", storagetest.Stream(data), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, f.direct, "ns/key"); !bytes.Equal(got, data) {
		t.Error("the object is another than what was sent")
	}
}

func TestWhatTheStoreAnswersIsCompared(t *testing.T) {
	f := openFaulty(t, nil)
	const header = "X-Amz-Checksum-Crc64nvme"
	for _, size := range []int{100, 11 * mib} {
		for name, c := range map[string]struct {
			change func(*http.Response)
			want   error
		}{
			"another checksum": {func(resp *http.Response) {
				if resp.Header.Get(header) != "" {
					resp.Header.Set(header, "AAAAAAAAAAA=")
				}
				rewrite(resp, "<ChecksumCRC64NVME>", "<ChecksumCRC64NVME>AAAA")
			}, storage.ErrCorrupt},
			"no checksum": {func(resp *http.Response) { resp.Header.Del(header) }, storage.ErrInvalid},
			"another checksum of the whole": {func(resp *http.Response) { // the parts' are right
				if size < mib {
					resp.Header.Set(header, "AAAAAAAAAAA=")
				}
				rewrite(resp, "<ChecksumCRC64NVME>", "<ChecksumCRC64NVME>AAAA")
			}, storage.ErrCorrupt},
		} {
			t.Run(fmt.Sprint(name, " of ", size), func(t *testing.T) {
				f.answer.Store(&c.change)
				_, err := f.Put(t.Context(), "ns/key", storagetest.Stream(storagetest.Bytes(size)), storage.PutOptions{})
				storagetest.IsError(t, err, c.want, "ns/key")
				f.noUploads(t)
			})
		}
	}
}

func rewrite(resp *http.Response, old, new string) {
	if resp.Header.Get("Content-Type") != "application/xml" {
		return
	}
	body, _ := io.ReadAll(resp.Body)
	body = bytes.ReplaceAll(body, []byte(old), []byte(new))
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	resp.Header.Set("Content-Length", fmt.Sprint(len(body)))
}

func TestBytesThatChangeOnTheWayAreRefused(t *testing.T) {
	f := openFaulty(t, func(o *Options) { o.Attempts = 1 })
	f.failOn(func(_ http.ResponseWriter, r *http.Request) bool {
		if op := operation(r); op == "put" || op == "part" {
			body, _ := io.ReadAll(r.Body)
			body[len(body)/2] ^= 1
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		return false
	})
	for _, size := range []int{100, 11 * mib} {
		_, err := f.Put(t.Context(), "ns/key", storagetest.Stream(storagetest.Bytes(size)), storage.PutOptions{})
		storagetest.IsError(t, err, storage.ErrCorrupt, "ns/key")
	}
	f.noUploads(t)
}

func TestBytesThatRotInTheStoreAreNoticed(t *testing.T) {
	f := openFaulty(t, nil)
	for _, size := range []int{100, 11 * mib} {
		put(t, f.direct, "ns/key", storagetest.Bytes(size))
		name := filepath.Join(f.server.Dir, f.opts.Bucket, "ns/key")
		file, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt([]byte("rotten"), int64(size/2)); err != nil {
			t.Fatal(err)
		}
		file.Close()
		r, err := f.Open(t.Context(), "ns/key", "", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, r)
		storagetest.IsError(t, err, storage.ErrCorrupt, "ns/key")
		r.Close()
	}
}

// cutAfter lets n bytes of each answer to a GET pass, then breaks the connection.
func cutAfter(n int64, times int64) func(*http.Response) {
	var cuts atomic.Int64
	return func(resp *http.Response) {
		if resp.Request.Method == http.MethodGet && resp.ContentLength > n && cuts.Add(1) <= times {
			resp.Body = struct {
				io.Reader
				io.Closer
			}{io.MultiReader(io.LimitReader(resp.Body, n), brokenReader{}), resp.Body}
		}
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("cut") }

func TestAReadGoesOnWhereTheConnectionBroke(t *testing.T) {
	f := openFaulty(t, nil)
	data := storagetest.Bytes(3 * mib)
	put(t, f.direct, "ns/key", data)
	for _, r := range [][2]int64{{0, -1}, {1000, -1}, {1000, 2 * mib}} {
		change := cutAfter(300_000, 1000)
		f.answer.Store(&change)
		body, err := f.Open(t.Context(), "ns/key", "", r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		body.Close()
		want := data[r[0]:]
		if r[1] >= 0 {
			want = want[:r[1]]
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: got %d bytes, %v, want %d", r, len(got), err, len(want))
		}
	}
}

func TestAReadThatCannotGoOnFails(t *testing.T) {
	data := storagetest.Bytes(3 * mib)
	for name, c := range map[string]struct {
		then func(f *faulty)
		want error
	}{
		"the store is away":            {func(f *faulty) { f.failOn(func(w http.ResponseWriter, _ *http.Request) bool { return cut(w) }) }, storage.ErrUnavailable},
		"the object has been replaced": {func(f *faulty) { put(t, f.direct, "ns/key", data[1:]) }, storage.ErrChanged},
		"the object has been deleted":  {func(f *faulty) { _, _ = f.direct.Delete(t.Context(), "ns/key") }, storage.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			f := openFaulty(t, func(o *Options) { o.Attempts = 2 })
			put(t, f.direct, "ns/key", data)
			change := cutAfter(1*mib, 1)
			f.answer.Store(&change)
			r, err := f.Open(t.Context(), "ns/key", "", 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			c.then(f)
			n, err := io.Copy(io.Discard, r)
			if storagetest.IsError(t, err, c.want, "ns/key"); n >= int64(len(data)) {
				t.Errorf("read %d bytes", n)
			}
			if n, again := r.Read(make([]byte, 10)); n != 0 || again != err {
				t.Errorf("a read after the failure gave %d, %v", n, again)
			}
		})
	}
}

// TestAStoreThatDoesNotKnowIfMatch: not all that speak S3 do, and the bytes of two objects must not be mixed by them either.
func TestAStoreThatDoesNotKnowIfMatch(t *testing.T) {
	f := openFaulty(t, func(o *Options) { o.Attempts = 2 })
	data := storagetest.Bytes(3 * mib)
	put(t, f.direct, "ns/key", data)
	obj, err := f.Stat(t.Context(), "ns/key")
	if err != nil {
		t.Fatal(err)
	}
	break1, answers := cutAfter(1*mib, 1), 0
	change := func(resp *http.Response) { // the second answer is about another object
		if break1(resp); resp.Request.Method == http.MethodGet {
			if answers++; answers > 1 {
				resp.Header.Set("ETag", `"other"`)
			}
		}
	}
	f.answer.Store(&change)
	r, err := f.Open(t.Context(), "ns/key", obj.ETag, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, r)
	if storagetest.IsError(t, err, storage.ErrChanged, "ns/key"); n > 1*mib {
		t.Errorf("read %d bytes", n)
	}
	_, err = f.Open(t.Context(), "ns/key", obj.ETag, 10, 10)
	storagetest.IsError(t, err, storage.ErrChanged, "ns/key")
}

func TestAStoreThatHangsIsUnavailable(t *testing.T) {
	f := openFaulty(t, func(o *Options) { o.Timeout, o.Attempts = time.Second, 1 })
	put(t, f.direct, "ns/key", storagetest.Bytes(8*mib))
	hanging, err := f.Open(t.Context(), "ns/key", "", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer hanging.Close()

	f.server.Pause()
	defer f.server.Resume()
	_, err = io.Copy(io.Discard, hanging)
	storagetest.IsError(t, err, storage.ErrUnavailable, "ns/key")
	_, err = f.Open(t.Context(), "ns/key", "", 0, -1)
	storagetest.IsError(t, err, storage.ErrUnavailable, "ns/key")
	_, err = f.Stat(t.Context(), "ns/key")
	storagetest.IsError(t, err, storage.ErrUnavailable, "ns/key")
	for _, size := range []int{100, 11 * mib} {
		_, err = f.Put(t.Context(), "ns/new", storagetest.Stream(storagetest.Bytes(size)), storage.PutOptions{})
		storagetest.IsError(t, err, storage.ErrUnavailable, "ns/new")
	}
	for _, err := range f.List(t.Context(), "ns/", "") {
		storagetest.IsError(t, err, storage.ErrUnavailable, "ns/")
	}
	if failed, err := f.Delete(t.Context(), "ns/key"); !errors.Is(err, storage.ErrUnavailable) || len(failed) != 1 {
		t.Errorf("delete: got %q, %v", failed, err)
	}
	if err := f.Ping(t.Context()); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("ping: got %v", err)
	}
}

func TestASlowReaderIsNotAStoreThatHangs(t *testing.T) {
	f := openFaulty(t, func(o *Options) { o.Timeout, o.Attempts = time.Second, 1 })
	data := storagetest.Bytes(8 * mib)
	put(t, f.direct, "ns/key", data)
	r, err := f.Open(t.Context(), "ns/key", "", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	first := make([]byte, 1000)
	if _, err := io.ReadFull(r, first); err != nil {
		t.Fatal(err)
	}
	<-time.After(2500 * time.Millisecond) // what is tested is that nothing happens in this time
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(append(first, rest...), data) {
		t.Errorf("got %d bytes, %v", 1000+len(rest), err)
	}
}

func TestAStoreThatIsAwayIsUnavailableAndThenIsNot(t *testing.T) {
	f := openFaulty(t, func(o *Options) { o.Attempts = 1 })
	data := storagetest.Bytes(11 * mib)
	_, err := f.Put(t.Context(), "ns/key", io.MultiReader(storagetest.Stream(data), callback(f.server.Stop), storagetest.Stream(data)), storage.PutOptions{})
	storagetest.IsError(t, err, storage.ErrUnavailable, "ns/key")
	if _, err := f.direct.Stat(t.Context(), "ns/key"); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("without a proxy: got %v, want %v", err, storage.ErrUnavailable)
	}
	f.server.Start()
	n := 0
	for u, err := range f.Uploads(t.Context()) { // the store died before it could be removed
		if err != nil || f.AbortUpload(t.Context(), u) != nil {
			t.Errorf("got %v, %v", u, err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("there are %d unfinished uploads, want 1", n)
	}
	put(t, f.Bucket, "ns/key", data)
	if got := readAll(t, f.Bucket, "ns/key"); !bytes.Equal(got, data) {
		t.Error("the object is another than what was sent")
	}
}

func TestAListOutOfOrderIsRefused(t *testing.T) {
	f := openFaulty(t, nil)
	for name, body := range map[string]string{
		"order":  `<Contents><Key>b</Key></Contents><Contents><Key>a</Key></Contents><IsTruncated>false</IsTruncated>`,
		"start":  `<Contents><Key>a</Key></Contents><IsTruncated>false</IsTruncated>`,
		"escape": `<EncodingType>url</EncodingType><Contents><Key>%zz</Key></Contents><IsTruncated>false</IsTruncated>`,
		"token":  `<Contents><Key>b</Key></Contents><IsTruncated>true</IsTruncated>`,
	} {
		f.failOn(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/xml")
			_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`+body+`</ListBucketResult>`)
			return true
		})
		var last error
		for _, err := range f.List(t.Context(), "", "a") {
			last = err
		}
		if !errors.Is(last, storage.ErrCorrupt) {
			t.Errorf("%s: got %v, want %v", name, last, storage.ErrCorrupt)
		}
	}
}

func TestAKeyThatCannotBeDeletedIsReturned(t *testing.T) {
	f := openFaulty(t, nil)
	f.failOn(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/xml")
		_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`+
			`<Error><Key>ns/b</Key><Code>AccessDenied</Code><Message>no</Message></Error><Error><Key>ns/c</Key><Code>InternalError</Code></Error></DeleteResult>`)
		return true
	})
	failed, err := f.Delete(t.Context(), "ns/a", "ns/b", "ns/c")
	if storagetest.IsError(t, err, storage.ErrDenied, "ns/b"); strings.Join(failed, " ") != "ns/b ns/c" {
		t.Errorf("failed: %q", failed)
	}
}

type callback func()

func (c callback) Read([]byte) (int, error) {
	c()
	return 0, io.EOF
}

func put(t *testing.T, b *Bucket, key string, data []byte) {
	t.Helper()
	if _, err := b.Put(t.Context(), key, bytes.NewReader(data), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func readAll(t *testing.T, b *Bucket, key string) []byte {
	t.Helper()
	r, err := b.Open(t.Context(), key, "", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
