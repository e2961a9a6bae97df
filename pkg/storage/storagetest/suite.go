// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package storagetest holds what tests of buckets, and tests over buckets, share: the suite that every driver
// passes, a bucket that fails on demand, and a real S3 server.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.io/coredump/pkg/storage"
)

const mib = 1 << 20

// Run checks every sentence of the contract of storage.Bucket. open gives a new and empty bucket each time. A driver that has parts
// should be opened with parts of 5 MiB, on whose multiples the suite tries its luck.
func Run(t *testing.T, open func(t *testing.T) storage.Bucket) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, storage.Bucket)
	}{
		{"what was put can be read, in any size", sizes},
		{"a put replaces the object and changes its ETag", replaces},
		{"a put if absent leaves what there is", ifAbsent},
		{"of many puts if absent exactly one wins", ifAbsentRace},
		{"a put whose reader fails leaves nothing", readerFails},
		{"a put whose context ends leaves nothing", putCancelled},
		{"a range is what was asked for", ranges},
		{"an ETag that is another is told", etags},
		{"what is missing is not found", missing},
		{"keys that cannot be are refused", invalidKeys},
		{"a list is in the order of the keys", listOrder},
		{"a list begins with its prefix and after its start", listRanges},
		{"a list of many pages is complete", listPages},
		{"a list can be left and its context can end", listStops},
		{"directories are the next components", dirs},
		{"a delete removes what there is and nothing else", deletes},
		{"a delete that is cancelled returns what it left", deleteCancelled},
		{"unfinished uploads are listed and can be removed", uploads},
		{"a ping succeeds", pings},
		{"readers and writers do not disturb each other", concurrent},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

// Bytes gives n bytes that no compression makes shorter, the same ones each time.
func Bytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// Stream hides all but Read: a reader of unknown length that cannot seek.
func Stream(data []byte) io.Reader { return struct{ io.Reader }{bytes.NewReader(data)} }

func sizes(t *testing.T, b storage.Bucket) {
	for _, n := range []int{0, 1, 1000, mib + 1, 5*mib - 1, 5 * mib, 5*mib + 1, 10 * mib, 16*mib + 3} {
		for _, max := range []int64{0, int64(n)} {
			key, data := fmt.Sprintf("ns/size-%d-%d", n, max), Bytes(n)
			put := must(b.Put(t.Context(), key, Stream(data), storage.PutOptions{MaxSize: max, ContentType: "application/octet-stream"}))(t)
			if put.Key != key || put.Size != int64(n) {
				t.Errorf("put of %d bytes returned %+v", n, put)
			}
			if got := read(t, b, key, "", 0, -1); !bytes.Equal(got, data) {
				t.Errorf("of %d bytes %d were read, or others", n, len(got))
			}
			stat := must(b.Stat(t.Context(), key))(t)
			if stat.Key != key || stat.Size != int64(n) || stat.ETag == "" {
				t.Errorf("stat of %d bytes returned %+v", n, stat)
			}
			if age := time.Since(stat.LastModified); age < -time.Minute || age > time.Hour {
				t.Errorf("just written, and last modified at %v", stat.LastModified)
			}
			if put.ETag != "" && put.ETag != stat.ETag {
				t.Errorf("put returned the ETag %s, stat %s", put.ETag, stat.ETag)
			}
			if put.Checksum != "" && stat.Checksum != "" && put.Checksum != stat.Checksum {
				t.Errorf("put returned the checksum %s, stat %s", put.Checksum, stat.Checksum)
			}
			listed := collect(b.List(t.Context(), key, ""))(t)
			stat.Checksum = ""
			if len(listed) != 1 || !listed[0].LastModified.Equal(stat.LastModified) || listed[0].ETag != stat.ETag || listed[0].Size != stat.Size || listed[0].Key != key {
				t.Errorf("list returned %+v, stat %+v", listed, stat)
			}
		}
	}
	noUploads(t, b)
}

func replaces(t *testing.T, b storage.Bucket) {
	write(t, b, "ns/a", "one")
	one := must(b.Stat(t.Context(), "ns/a"))(t)
	r := must(b.Open(t.Context(), "ns/a", "", 0, -1))(t)
	defer r.Close()
	write(t, b, "ns/a", "two")
	two := must(b.Stat(t.Context(), "ns/a"))(t)
	if one.ETag == two.ETag {
		t.Errorf("the ETag is %s before and after", one.ETag)
	}
	if got := string(read(t, b, "ns/a", "", 0, -1)); got != "two" {
		t.Errorf("read %q", got)
	}
	if got, err := io.ReadAll(r); err == nil && string(got) != "one" {
		t.Errorf("a reader of the replaced object read %q without an error", got)
	}
}

func ifAbsent(t *testing.T, b storage.Bucket) {
	for _, n := range []int{3, 6 * mib} {
		key := fmt.Sprintf("ns/%d", n)
		if _, err := b.Put(t.Context(), key, Stream(Bytes(n)), storage.PutOptions{IfAbsent: true}); err != nil {
			t.Fatal(err)
		}
		_, err := b.Put(t.Context(), key, Stream(Bytes(n+1)), storage.PutOptions{IfAbsent: true})
		IsError(t, err, storage.ErrExists, key)
		if got := read(t, b, key, "", 0, -1); !bytes.Equal(got, Bytes(n)) {
			t.Errorf("the object has been replaced")
		}
	}
	noUploads(t, b)
}

func ifAbsentRace(t *testing.T, b storage.Bucket) {
	const writers = 16
	for _, size := range []int{100, 5*mib + 100} {
		key := fmt.Sprintf("ns/pod/race-%d", size)
		errs := make([]error, writers)
		parallel(writers, func(i int) {
			data := bytes.Repeat([]byte{byte(i)}, size)
			_, errs[i] = b.Put(t.Context(), key, Stream(data), storage.PutOptions{IfAbsent: true})
		})
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner < 0:
				winner = i
			case err == nil:
				t.Errorf("both %d and %d won", winner, i)
			case !errors.Is(err, storage.ErrExists):
				t.Errorf("writer %d got %v, not %v", i, err, storage.ErrExists)
			}
		}
		if winner < 0 {
			t.Fatal("nobody won")
		}
		if got := read(t, b, key, "", 0, -1); !bytes.Equal(got, bytes.Repeat([]byte{byte(winner)}, size)) {
			t.Errorf("the object is not the winner's")
		}
	}
	noUploads(t, b)
}

func readerFails(t *testing.T, b storage.Bucket) {
	broken := errors.New("the disk is broken")
	write(t, b, "ns/kept", "before")
	for _, n := range []int{0, 100, 5 * mib, 11 * mib} {
		for _, key := range []string{"ns/new", "ns/kept"} {
			_, err := b.Put(t.Context(), key, io.MultiReader(Stream(Bytes(n)), failing{broken}), storage.PutOptions{})
			if IsError(t, err, broken, key); errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("the caller's own error has a kind of the store's: %v", err)
			}
		}
	}
	_, err := b.Stat(t.Context(), "ns/new")
	IsError(t, err, storage.ErrNotFound, "ns/new")
	if got := string(read(t, b, "ns/kept", "", 0, -1)); got != "before" {
		t.Errorf("the object has changed to %.20q", got)
	}
	noUploads(t, b)
}

func putCancelled(t *testing.T, b storage.Bucket) {
	for _, n := range []int{0, 100, 11 * mib} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := b.Put(ctx, "ns/new", io.MultiReader(Stream(Bytes(n)), calling{cancel}, Stream(Bytes(n))), storage.PutOptions{})
		if IsError(t, err, context.Canceled, "ns/new"); errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("a cancelled context is not the store's fault: %v", err)
		}
	}
	_, err := b.Stat(t.Context(), "ns/new")
	IsError(t, err, storage.ErrNotFound, "ns/new")
	noUploads(t, b)
}

func ranges(t *testing.T, b storage.Bucket) {
	data := Bytes(6 * mib)
	write(t, b, "ns/a", string(data))
	write(t, b, "ns/empty", "")
	size := int64(len(data))
	for _, r := range [][2]int64{{0, -1}, {0, 0}, {0, 1}, {1, 10}, {5*mib - 1, 2}, {100, -1}, {size - 1, 1}, {size - 1, -1}, {size, -1}, {size, 0}, {size, 5}, {size - 5, 10}, {0, size + 100}, {3, 1<<63 - 1}} {
		want := data[r[0]:]
		if r[1] >= 0 {
			want = want[:min(r[1], int64(len(want)))]
		}
		if got := read(t, b, "ns/a", "", r[0], r[1]); !bytes.Equal(got, want) {
			t.Errorf("%d bytes from %d on: got %d, want %d bytes, or others", r[1], r[0], len(got), len(want))
		}
	}
	for _, length := range []int64{-1, 0, 1} {
		if got := read(t, b, "ns/empty", "", 0, length); len(got) != 0 {
			t.Errorf("an empty object has %d bytes", len(got))
		}
	}
	for _, r := range [][2]int64{{size + 1, 1}, {size + 1, -1}, {-1, 1}, {size + 1, 0}} {
		_, err := b.Open(t.Context(), "ns/a", "", r[0], r[1])
		IsError(t, err, storage.ErrInvalid, "ns/a")
	}
}

func etags(t *testing.T, b storage.Bucket) {
	write(t, b, "ns/a", "one")
	etag := must(b.Stat(t.Context(), "ns/a"))(t).ETag
	for _, r := range [][2]int64{{0, -1}, {1, 1}, {0, 0}, {3, -1}} {
		if got := string(read(t, b, "ns/a", etag, r[0], r[1])); !strings.Contains("one", got) {
			t.Errorf("read %q", got)
		}
		_, err := b.Open(t.Context(), "ns/a", "0123456789abcdef0123456789abcdef", r[0], r[1])
		IsError(t, err, storage.ErrChanged, "ns/a")
	}
	write(t, b, "ns/a", "two")
	_, err := b.Open(t.Context(), "ns/a", etag, 0, -1)
	IsError(t, err, storage.ErrChanged, "ns/a")
}

func missing(t *testing.T, b storage.Bucket) {
	write(t, b, "ns/pod/a", "x")
	for _, key := range []string{"ns/pod/b", "ns/pod", "ns", "ns/pod/a/b", "other/pod/a"} {
		_, err := b.Stat(t.Context(), key)
		IsError(t, err, storage.ErrNotFound, key)
		for _, r := range [][2]int64{{0, -1}, {0, 0}, {0, 1}, {5, 1}} {
			_, err = b.Open(t.Context(), key, "", r[0], r[1])
			IsError(t, err, storage.ErrNotFound, key)
		}
	}
}

func invalidKeys(t *testing.T, b storage.Bucket) {
	for _, key := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\nb", "a\x00b", "\xff", "ä", strings.Repeat("a", 256), strings.Repeat("a/", 600) + "a"} {
		for op, err := range map[string]error{
			"put":   second(b.Put(t.Context(), key, strings.NewReader("x"), storage.PutOptions{})),
			"open":  second(b.Open(t.Context(), key, "", 0, -1)),
			"stat":  second(b.Stat(t.Context(), key)),
			"abort": b.AbortUpload(t.Context(), storage.Upload{Key: key, ID: "x"}),
		} {
			if !errors.Is(err, storage.ErrInvalid) {
				t.Errorf("%s of key %.40q: got %v, want %v", op, key, err, storage.ErrInvalid)
			}
		}
		if failed, err := b.Delete(t.Context(), key); !errors.Is(err, storage.ErrInvalid) || !slices.Equal(failed, []string{key}) {
			t.Errorf("delete of key %.40q: got %q, %v, want %v", key, failed, err, storage.ErrInvalid)
		}
		for _, prefix := range []string{key + "/", "x/" + key} {
			if got := collect(b.List(t.Context(), prefix, ""))(t); len(got) != 0 {
				t.Errorf("list of %q: got %v", prefix, got)
			}
		}
	}
}

func pings(t *testing.T, b storage.Bucket) {
	if err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func concurrent(t *testing.T, b storage.Bucket) {
	// The directories of each come and go all the time under those of the others.
	parallel(8, func(i int) {
		for n := range 10 {
			key, data := fmt.Sprintf("ns/pod-%d/container/%d", i%3, i), fmt.Sprint(i, n)
			_, err := b.Put(t.Context(), key, strings.NewReader(data), storage.PutOptions{})
			for range 100 {
				if !errors.Is(err, storage.ErrUnavailable) { // some stores say so instead of trying again themselves
					break
				}
				_, err = b.Put(t.Context(), key, strings.NewReader(data), storage.PutOptions{})
			}
			if err != nil {
				t.Error(err)
				return
			}
			r, err := b.Open(t.Context(), key, "", 0, -1)
			if err != nil {
				t.Error(err)
				return
			}
			got, err := io.ReadAll(r)
			if r.Close(); err != nil || string(got) != data {
				t.Errorf("got %q, %v, want %q", got, err, data)
			}
			for _, err := range b.List(t.Context(), "ns/", "") {
				if err != nil {
					t.Error(err)
				}
			}
			if failed, err := b.Delete(t.Context(), key); err != nil {
				t.Error(failed, err)
			}
		}
	})
	if left := collect(b.List(t.Context(), "", ""))(t); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
	noUploads(t, b)
}

// The helpers.

// IsError checks that err is of the kind, is a storage.Error and names the key, once.
func IsError(t *testing.T, err, kind error, key string) {
	t.Helper()
	var e *storage.Error
	switch {
	case !errors.Is(err, kind):
		t.Errorf("got error %v, want %v", err, kind)
	case !errors.As(err, &e):
		t.Errorf("got %#v, want a storage.Error", err)
	case e.Op == "" || e.Key != key:
		t.Errorf("the error has operation %q and key %q, want key %q", e.Op, e.Key, key)
	case strings.Count(" "+strings.ReplaceAll(err.Error(), ":", " ")+" ", " "+key+" ") != 1:
		t.Errorf("the error must name the key %q once: %v", key, err)
	}
}

func write(t *testing.T, b storage.Bucket, key, data string) {
	t.Helper()
	if _, err := b.Put(t.Context(), key, strings.NewReader(data), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, b storage.Bucket, key, etag string, offset, length int64) []byte {
	t.Helper()
	r, err := b.Open(t.Context(), key, etag, offset, length)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	return data
}

func noUploads(t *testing.T, b storage.Bucket) {
	t.Helper()
	if u := collect(b.Uploads(t.Context()))(t); len(u) != 0 {
		t.Errorf("unfinished uploads are left: %v", u)
	}
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func second[T any](_ T, err error) error { return err }

func collect[T any](seq iter.Seq2[T, error]) func(t *testing.T) []T {
	return func(t *testing.T) (all []T) {
		t.Helper()
		for v, err := range seq {
			if err != nil {
				t.Error(err)
				break
			}
			all = append(all, v)
		}
		return all
	}
}

func parallel(n int, do func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}

// failing is a reader that fails.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// calling is a reader that calls a function at its end.
type calling struct{ f func() }

func (c calling) Read([]byte) (int, error) {
	c.f()
	return 0, io.EOF
}
