// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/bundle"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/storagetest"
)

func contextOf(t *testing.T, log string) []byte {
	t.Helper()
	data, err := bundle.Encode([]bundle.File{{Name: "log.txt", Data: []byte(log)}, {Name: "proc/maps"}, {Name: "proc/limits", Data: []byte("limits")}})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func coreName(minutes int) string {
	return fmt.Sprintf("app/core-server-%d-%d-11", now.Unix()-int64(60*minutes), minutes)
}

// contextFiles are what of an archive is beside the core of so many minutes ago.
func contextFiles(files map[string]string, minutes int) map[string]string {
	of := map[string]string{}
	for name, data := range files {
		if rest, ok := strings.CutPrefix(name, coreName(minutes)+".context/"); ok {
			of[rest] = data
		}
	}
	return of
}

func TestTheFilesOfAContextAreBesideTheirCoreInEveryFormat(t *testing.T) {
	f := start(t)
	for minutes := 1; minutes <= 3; minutes++ {
		f.beside = contextOf(t, fmt.Sprintf("line %d\n", minutes))
		f.put("shop", "web-0", "app", minutes, []byte("core"))
	}
	f.beside = nil
	f.put("shop", "web-0", "app", 4, []byte("core"))
	for format, codec := range map[string]storage.Codec{"tar": storage.CodecNone, "tar.gz": storage.CodecGzip, "tar.zst": storage.CodecZstd} {
		for _, sub := range []string{"/dump", "/proxy"} {
			path := api + "/namespaces/shop/coredumpendpoints/web-0" + sub + "?format=" + format
			files := f.tar("admin", path, codec)
			for minutes := 1; minutes <= 3; minutes++ {
				want := map[string]string{"log.txt": fmt.Sprintf("line %d\n", minutes), "proc/maps": "", "proc/limits": "limits"}
				if got := contextFiles(files, minutes); !maps.Equal(got, want) {
					t.Errorf("%s: %d minutes ago: got %q, want %q", path, minutes, got, want)
				}
			}
			if len(files) != 4*2+3*3 || len(contextFiles(files, 4)) != 0 {
				t.Errorf("%s: got %q", path, slices.Sorted(maps.Keys(files)))
			}
		}
	}
	code, h, data := f.try("admin", "GET", api+"/namespaces/shop/coredumpendpoints/web-0/dump?format=tar")
	if code != 200 || h.Get("Content-Length") != strconv.Itoa(len(data)) {
		t.Errorf("%d, Content-Length %s, %d bytes", code, h.Get("Content-Length"), len(data))
	}
}

func TestAContextIsServedToWhoMayDumpOnly(t *testing.T) {
	f := start(t)
	f.beside = contextOf(t, "a password in a log")
	k := f.put("shop", "web-0", "app", 1, []byte("core"))
	f.allow(reader("tenant", "shop")...)
	path := api + "/namespaces/shop/coredumps/" + k.Name()
	_, _, data := f.try("tenant", "GET", path)
	if strings.Contains(string(data), "password") {
		t.Errorf("got %s", data)
	}
	f.refused("nobody", path+"/dump", http.StatusForbidden)
}

func TestACoreIsThereWhereItsContextIsNot(t *testing.T) {
	for name, test := range map[string]struct {
		change func(f *fixture, key string)
		note   string
	}{
		"removed": {func(f *fixture, key string) {
			if _, err := f.store.Bucket.Delete(f.t.Context(), key); err != nil {
				f.t.Fatal(err)
			}
		}, "it is missing"},
		"cut":       {func(f *fixture, key string) { f.overwrite(key, func(b []byte) []byte { return b[:len(b)/2] }) }, "not what was put there"},
		"longer":    {func(f *fixture, key string) { f.overwrite(key, func(b []byte) []byte { return append(b, 0) }) }, "not what was put there"},
		"a bit off": {func(f *fixture, key string) { f.overwrite(key, func(b []byte) []byte { b[9] ^= 4; return b }) }, "not what was put there"},
		"refused": {func(f *fixture, key string) {
			f.store.Before = func(op storagetest.Op, k string) error {
				if k == key {
					return &storage.Error{Op: string(op), Key: k, Kind: storage.ErrDenied}
				}
				return nil
			}
		}, "refuses access"},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			f.beside = contextOf(t, "line\n")
			f.put("shop", "web-0", "app", 1, []byte("first"))
			k := f.put("shop", "web-0", "app", 2, []byte("second"))
			test.change(f, k.Context())
			files := f.tar("admin", api+"/namespaces/shop/coredumpendpoints/web-0/dump?format=tar", storage.CodecNone)
			if files[coreName(1)] != "first" || files[coreName(2)] != "second" || len(contextFiles(files, 1)) != 3 {
				t.Errorf("got %q", files)
			}
			if beside := contextFiles(files, 2); len(beside) != 1 || !strings.Contains(beside["context-error.txt"], test.note) {
				t.Errorf("beside the core there is %q", beside)
			}
			if alone := f.tar("admin", api+"/namespaces/shop/coredumps/"+k.Name()+"/dump", storage.CodecGzip); alone[coreName(2)] != "second" {
				t.Errorf("alone: got %q", alone)
			}
		})
	}
}

func (f *fixture) overwrite(key string, change func([]byte) []byte) {
	f.t.Helper()
	r, err := f.store.Bucket.Open(f.t.Context(), key, "", 0, -1)
	if err != nil {
		f.t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.store.Bucket.Put(f.t.Context(), key, strings.NewReader(string(change(data))), storage.PutOptions{}); err != nil {
		f.t.Fatal(err)
	}
}

func TestAStoreThatIsAwayForAContextIs503(t *testing.T) {
	f := start(t)
	f.beside = contextOf(t, "line\n")
	k := f.put("shop", "web-0", "app", 1, []byte("core"))
	f.store.Before = func(op storagetest.Op, key string) error {
		if key == k.Context() {
			return &storage.Error{Op: string(op), Key: key, Kind: storage.ErrUnavailable}
		}
		return nil
	}
	f.refused("admin", api+"/namespaces/shop/coredumpendpoints/web-0/dump", http.StatusServiceUnavailable, "object store")
}

// TestAContextThatIsLostWhileItIsSentAborts: its length has been promised by then.
func TestAContextThatIsLostWhileItIsSentAborts(t *testing.T) {
	f := start(t)
	f.beside = contextOf(t, "line\n")
	k := f.put("shop", "web-0", "app", 1, []byte("core"))
	var reads atomic.Int32
	f.store.Before = func(op storagetest.Op, key string) error {
		if op == storagetest.OpOpen && key == k.Context() && reads.Add(1) > 1 {
			return &storage.Error{Op: string(op), Key: key, Kind: storage.ErrNotFound}
		}
		return nil
	}
	before := f.metric(downloads("store_failed", "tar"))
	if code, _, data := f.try("admin", "GET", api+"/namespaces/shop/coredumps/"+k.Name()+"/dump?format=tar"); code != 0 { // no answer to its end
		t.Errorf("got %d with %d bytes, want an aborted stream", code, len(data))
	}
	f.eventually("counted", func() bool { return f.metric(downloads("store_failed", "tar")) == before+1 })
}

// TestOfManyContextsAFewAreReadAtATime shows that memory does not grow with the number of dumps: few are checked at a time, and one is held
// while the archive is sent.
func TestOfManyContextsAFewAreReadAtATime(t *testing.T) {
	var open, most, total atomic.Int32
	f := start(t, func(c *Config) {
		c.Bucket = &watched{Bucket: c.Bucket, open: &open, most: &most, total: &total}
	})
	const dumps = 60
	for i := range dumps {
		f.beside = contextOf(t, fmt.Sprintf("line %d\n", i))
		f.put("shop", "web-0", "app", i, []byte("core"))
	}
	files := f.tar("admin", api+"/namespaces/shop/coredumpendpoints/web-0/dump", storage.CodecGzip)
	if len(files) != dumps*5 || total.Load() != 2*dumps || most.Load() > 8 {
		t.Errorf("%d files, %d reads of contexts, %d at a time", len(files), total.Load(), most.Load())
	}
}

// watched counts how many contexts are open at a time.
type watched struct {
	storage.Bucket
	open, most, total *atomic.Int32
}

func (w *watched) Open(ctx context.Context, key, etag string, offset, length int64) (io.ReadCloser, error) {
	r, err := w.Bucket.Open(ctx, key, etag, offset, length)
	if e, _ := storage.ParseKey(key); err != nil || !e.IsContext {
		return r, err
	}
	w.total.Add(1)
	for n := w.open.Add(1); ; {
		if old := w.most.Load(); n <= old || w.most.CompareAndSwap(old, n) {
			return &watchedReader{r, w.open}, nil
		}
	}
}

type watchedReader struct {
	io.ReadCloser
	open *atomic.Int32
}

func (w *watchedReader) Close() error {
	w.open.Add(-1)
	return w.ReadCloser.Close()
}

func TestTheRecordListsTheFilesOfTheContext(t *testing.T) {
	f := start(t)
	f.beside = contextOf(t, "line\n")
	k := f.put("shop", "web-0", "app", 1, []byte("core"))
	var d v1alpha1.CoreDump
	f.get("admin", api+"/namespaces/shop/coredumps/"+k.Name(), &d)
	want := []v1alpha1.ContextFile{{Name: "log.txt", Size: 5}, {Name: "proc/limits", Size: 6}, {Name: "proc/maps"}}
	if c := d.Status.Context; c == nil || !slices.Equal(c.Files, want) {
		t.Errorf("got %+v", d.Status.Context)
	}
}
