// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/file"
	"example.io/coredump/pkg/storage/storagetest"
)

var crash = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func key(namespace, pod, container string, n int) storage.Key {
	at := crash.Add(time.Duration(n) * time.Second)
	return storage.Key{Namespace: namespace, Pod: pod, Container: container, ID: storage.NewID(at, fmt.Sprint(n))}
}

var app = key("shop", "app-0", "main", 0)

func newBucket(t *testing.T) *storagetest.Faulty {
	t.Helper()
	b, err := file.Open(t.TempDir(), file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &storagetest.Faulty{Bucket: b}
}

// commit stores core under k.
func commit(ctx context.Context, d *storage.Dumps, k storage.Key, codec storage.Codec, core []byte) error {
	var body bytes.Buffer
	w, err := codec.NewWriter(&body, 1)
	if err != nil {
		return err
	}
	if _, err := w.Write(core); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return d.Commit(ctx, k, storage.Body{Reader: &body, Codec: codec, MaxSize: int64(body.Len())}, func(storage.Object) (*v1alpha1.CoreDump, error) {
		return record(k, core), nil
	})
}

func record(k storage.Key, core []byte) *v1alpha1.CoreDump {
	sum := sha256.Sum256(core)
	return &v1alpha1.CoreDump{
		Spec: v1alpha1.CoreDumpSpec{
			PodName: k.Pod, ContainerName: k.Container,
			Process: v1alpha1.Process{Executable: "/app/server", Signal: 11, SignalName: "SIGSEGV", Time: metav1.Time{Time: k.Time().Local()}},
		},
		Status: v1alpha1.CoreDumpStatus{Size: int64(len(core)), SHA256: hex.EncodeToString(sum[:])},
	}
}

func mustCommit(t *testing.T, d *storage.Dumps, k storage.Key, codec storage.Codec, core []byte) *v1alpha1.CoreDump {
	t.Helper()
	if err := commit(t.Context(), d, k, codec, core); err != nil {
		t.Fatal(err)
	}
	rec, err := d.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func list(t *testing.T, d *storage.Dumps, scope storage.Scope, after string) (names []string) {
	t.Helper()
	for l, err := range d.List(t.Context(), scope, after) {
		if err != nil {
			t.Fatal(err)
		}
		if l.Err != nil {
			names = append(names, "unreadable "+l.Key.Name())
			continue
		}
		names = append(names, l.Record.Namespace+"/"+l.Record.Name)
	}
	return names
}

func readCore(d *storage.Dumps, rec *v1alpha1.CoreDump) ([]byte, error) {
	r, err := d.OpenCore(context.Background(), rec)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestWhatWasCommittedIsThere(t *testing.T) {
	for _, codec := range []storage.Codec{storage.CodecNone, storage.CodecZstd, storage.CodecGzip} {
		for _, core := range [][]byte{{}, []byte("core"), storagetest.Bytes(3 << 20), make([]byte, 5<<20)} {
			b := newBucket(t)
			d := storage.NewDumps(b)
			rec := mustCommit(t, d, app, codec, core)
			if rec.Name != app.Name() || rec.Namespace != "shop" || rec.UID == "" || rec.ResourceVersion == "" || !rec.CreationTimestamp.Time.Equal(crash) || rec.Kind != "CoreDump" {
				t.Errorf("got the metadata %+v", rec.ObjectMeta)
			}
			obj, err := b.Stat(t.Context(), app.Body(codec))
			if err != nil || rec.Status.StoredSize != obj.Size || rec.Status.Codec != string(codec) {
				t.Errorf("got the status %+v, the object is %+v, %v", rec.Status, obj, err)
			}
			if got, err := readCore(d, rec); err != nil || !bytes.Equal(got, core) {
				t.Errorf("codec %q: of %d bytes %d were read, %v", codec, len(core), len(got), err)
			}
			r, err := d.OpenBody(t.Context(), rec, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || int64(len(got)) != obj.Size {
				t.Errorf("the body has %d bytes, %v, want %d", len(got), err, obj.Size)
			}
			r.Close()
		}
	}
}

func TestRangesOfTheBody(t *testing.T) {
	d := storage.NewDumps(newBucket(t))
	rec := mustCommit(t, d, app, storage.CodecNone, []byte("0123456789"))
	for _, c := range []struct {
		offset, length int64
		want           string
	}{{0, -1, "0123456789"}, {0, 10, "0123456789"}, {3, 4, "3456"}, {3, -1, "3456789"}, {8, 100, "89"}, {10, -1, ""}, {10, 5, ""}, {0, 0, ""}, {0, 1<<63 - 1, "0123456789"}} {
		r, err := d.OpenBody(t.Context(), rec, c.offset, c.length)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != c.want {
			t.Errorf("%d bytes from %d on: got %q, %v, want %q", c.length, c.offset, got, err, c.want)
		}
		r.Close()
	}
	for _, offset := range []int64{-1, 11} {
		if _, err := d.OpenBody(t.Context(), rec, offset, 1); !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("offset %d: got %v, want %v", offset, err, storage.ErrInvalid)
		}
	}
}

func TestTheBodyIsWrittenBeforeTheRecordAndDeletedAfterIt(t *testing.T) {
	b := newBucket(t)
	d := storage.NewDumps(b)
	if err := commit(t.Context(), d, app, storage.CodecZstd, []byte("core")); err != nil {
		t.Fatal(err)
	}
	var entries []storage.Entry
	for e, err := range d.Entries(t.Context(), storage.Scope{}, "") {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e.Entry)
	}
	if failed, err := d.Delete(t.Context(), entries...); err != nil || len(failed) != 0 {
		t.Fatal(failed, err)
	}
	var changes []storagetest.Call
	for _, c := range b.Calls() {
		if c.Op == storagetest.OpPut || c.Op == storagetest.OpDelete {
			changes = append(changes, c)
		}
	}
	body, rec := app.Body(storage.CodecZstd), app.Record()
	want := []storagetest.Call{{Op: storagetest.OpPut, Key: body}, {Op: storagetest.OpPut, Key: rec}, {Op: storagetest.OpDelete, Key: rec}, {Op: storagetest.OpDelete, Key: body}}
	if !slices.Equal(changes, want) {
		t.Errorf("got  %v\nwant %v", changes, want)
	}
}

func TestACommitThatFailsAnywhereLeavesNoDumpAndCanBeRepeated(t *testing.T) {
	away := errors.New("away")
	body, rec := app.Body(storage.CodecZstd), app.Record()
	on := func(op storagetest.Op, key string) func(storagetest.Op, string) error {
		return func(o storagetest.Op, k string) error {
			if o == op && k == key {
				return away
			}
			return nil
		}
	}
	for _, c := range []struct {
		name          string
		before, after func(storagetest.Op, string) error
		there         bool // though Commit failed: the store's answer was lost
	}{
		{"asking for the record fails", on(storagetest.OpStat, rec), nil, false},
		{"the body cannot be put", on(storagetest.OpPut, body), nil, false},
		{"the body was put and the answer lost", nil, on(storagetest.OpPut, body), false},
		{"the record cannot be put", on(storagetest.OpPut, rec), nil, false},
		{"the record was put and the answer lost", nil, on(storagetest.OpPut, rec), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBucket(t)
			d := storage.NewDumps(b)
			b.Before, b.After = c.before, c.after
			if err := commit(t.Context(), d, app, storage.CodecZstd, []byte("core")); !errors.Is(err, away) {
				t.Fatalf("got %v, want %v", err, away)
			}
			b.Before, b.After = nil, nil
			if got := list(t, d, storage.Scope{}, ""); len(got) == 1 != c.there {
				t.Errorf("listed %q", got)
			}
			if there, err := d.Exists(t.Context(), app); err != nil || there != c.there {
				t.Errorf("it exists: %v, %v; want %v", there, err, c.there)
			}
			err := commit(t.Context(), d, app, storage.CodecZstd, []byte("core"))
			if c.there != errors.Is(err, storage.ErrExists) || err != nil && !c.there {
				t.Errorf("again: got %v", err)
			}
			got, err := d.Get(t.Context(), app)
			if err != nil {
				t.Fatal(err)
			}
			if core, err := readCore(d, got); err != nil || string(core) != "core" {
				t.Errorf("read %q, %v", core, err)
			}
		})
	}
	t.Run("the record cannot be made", func(t *testing.T) {
		b := newBucket(t)
		d := storage.NewDumps(b)
		for name, rec := range map[string]func(storage.Object) (*v1alpha1.CoreDump, error){
			"its maker fails": func(storage.Object) (*v1alpha1.CoreDump, error) { return nil, away },
			"it is about another pod": func(storage.Object) (*v1alpha1.CoreDump, error) {
				return record(key("shop", "other", "main", 0), nil), nil
			},
			"it has no sum": func(storage.Object) (*v1alpha1.CoreDump, error) {
				r := record(app, nil)
				r.Status.SHA256 = ""
				return r, nil
			},
		} {
			if err := d.Commit(t.Context(), app, storage.Body{Reader: strings.NewReader("core")}, rec); err == nil {
				t.Errorf("%s: no error", name)
			}
			if got := list(t, d, storage.Scope{}, ""); len(got) != 0 {
				t.Errorf("%s: listed %q", name, got)
			}
		}
	})
}

func TestACommitWhoseReaderFailsLeavesNothing(t *testing.T) {
	b := newBucket(t)
	d := storage.NewDumps(b)
	broken := errors.New("broken")
	err := d.Commit(t.Context(), app, storage.Body{Reader: io.MultiReader(strings.NewReader("half"), errReader{broken})}, nil)
	storagetest.IsError(t, err, broken, app.Body(storage.CodecNone))
	for e, err := range d.Entries(t.Context(), storage.Scope{}, "") {
		t.Errorf("left: %v, %v", e, err)
	}
}

func TestADumpIsCommittedOnce(t *testing.T) {
	d := storage.NewDumps(newBucket(t))
	mustCommit(t, d, app, storage.CodecZstd, []byte("first"))
	err := d.Commit(t.Context(), app, storage.Body{Reader: errReader{errors.New("the body must not be read")}, Codec: storage.CodecZstd}, nil)
	storagetest.IsError(t, err, storage.ErrExists, app.Record())
}

func TestWhoMayOnlyWriteCanCommit(t *testing.T) {
	b := newBucket(t)
	d := storage.NewDumps(b)
	b.Before = func(op storagetest.Op, key string) error {
		if op != storagetest.OpPut {
			return &storage.Error{Op: string(op), Key: key, Kind: storage.ErrDenied} // what S3 says to who may not list, of what is not there
		}
		return nil
	}
	if err := commit(t.Context(), d, app, storage.CodecZstd, []byte("core")); err != nil {
		t.Error(err)
	}
	if err := commit(t.Context(), d, app, storage.CodecZstd, []byte("other")); !errors.Is(err, storage.ErrExists) {
		t.Errorf("again: got %v, want %v", err, storage.ErrExists)
	}
}

func TestAnAnswerThatWasLostAndAskedForAgainIsASuccess(t *testing.T) {
	b := newBucket(t)
	b.After = func(op storagetest.Op, key string) error {
		if op == storagetest.OpPut && key == app.Record() { // a driver made the request again and found its own object
			return &storage.Error{Op: "put", Key: key, Kind: storage.ErrExists}
		}
		return nil
	}
	if err := commit(t.Context(), storage.NewDumps(b), app, storage.CodecZstd, []byte("core")); err != nil {
		t.Error(err)
	}
}

func TestABodyThatIsNotWhatTheRecordSaysIsAnErrorAndNotAnEnd(t *testing.T) {
	core := storagetest.Bytes(300_000)
	for _, codec := range []storage.Codec{storage.CodecNone, storage.CodecZstd, storage.CodecGzip} {
		for name, change := range map[string]func([]byte) []byte{
			"cut":                   func(b []byte) []byte { return b[:len(b)/2] },
			"cut by a byte":         func(b []byte) []byte { return b[:len(b)-1] },
			"empty":                 func([]byte) []byte { return nil },
			"longer":                func(b []byte) []byte { return append(b, 0) },
			"twice":                 func(b []byte) []byte { return append(b, b...) },
			"a byte is another":     func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
			"something else":        func([]byte) []byte { return []byte("GIF89a") },
			"something of its size": func(b []byte) []byte { return bytes.Repeat([]byte("x"), len(b)) },
		} {
			t.Run(fmt.Sprintf("%s.%s", name, codec), func(t *testing.T) {
				b := newBucket(t)
				d := storage.NewDumps(b)
				rec := mustCommit(t, d, app, codec, core)
				body := app.Body(codec)
				replace(t, b, body, change(readObject(t, b, body)))
				got, err := readCore(d, rec)
				if storagetest.IsError(t, err, storage.ErrCorrupt, body); len(got) > len(core) {
					t.Errorf("got %d bytes of %d", len(got), len(core))
				}
			})
		}
	}
}

func TestARecordThatLiesAboutItsCoreIsFoundOut(t *testing.T) {
	core := []byte("the core")
	for name, lie := range map[string]func(*v1alpha1.CoreDump){
		"a shorter core": func(r *v1alpha1.CoreDump) { r.Status.Size-- },
		"a longer core":  func(r *v1alpha1.CoreDump) { r.Status.Size++ },
		"another sum":    func(r *v1alpha1.CoreDump) { r.Status.SHA256 = strings.Repeat("ab", 32) },
		"another codec":  func(r *v1alpha1.CoreDump) { r.Status.Codec = "gz" },
		"a shorter body": func(r *v1alpha1.CoreDump) { r.Status.StoredSize-- },
		"a longer body":  func(r *v1alpha1.CoreDump) { r.Status.StoredSize++ },
	} {
		b := newBucket(t)
		d := storage.NewDumps(b)
		rec := mustCommit(t, d, app, storage.CodecNone, core)
		lie(rec)
		if rec.Status.Codec == "gz" {
			write(t, b, app.Body(storage.CodecGzip), core)
		}
		if got, err := readCore(d, rec); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: got %q, %v, want %v", name, got, err, storage.ErrCorrupt)
		}
	}
}

func TestAStoreThatBreaksOffIsNotACoreThatEnds(t *testing.T) {
	b := newBucket(t)
	d := storage.NewDumps(b)
	rec := mustCommit(t, d, app, storage.CodecZstd, storagetest.Bytes(300_000))
	away := &storage.Error{Op: "read", Key: app.Body(storage.CodecZstd), Kind: storage.ErrUnavailable}
	first := true
	b.Cut = func(string) (n int64, err error) {
		if first {
			n, first = 100_000, false
		}
		return n, away
	}
	_, err := readCore(d, rec)
	storagetest.IsError(t, err, storage.ErrUnavailable, app.Body(storage.CodecZstd))
	if errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("the dump is not corrupt: %v", err)
	}
}

func TestDeleteKeepsABodyWhoseRecordItCouldNotDelete(t *testing.T) {
	b := newBucket(t)
	d := storage.NewDumps(b)
	other := key("shop", "app-1", "main", 1)
	mustCommit(t, d, app, storage.CodecZstd, []byte("core"))
	mustCommit(t, d, other, storage.CodecZstd, []byte("core"))
	denied := errors.New("denied")
	b.Before = func(op storagetest.Op, key string) error {
		if op == storagetest.OpDelete && key == app.Record() {
			return denied
		}
		return nil
	}
	entry := func(k storage.Key, isRecord bool) storage.Entry {
		return storage.Entry{Key: k, IsRecord: isRecord, Codec: map[bool]storage.Codec{false: storage.CodecZstd}[isRecord]}
	}
	failed, err := d.Delete(t.Context(), entry(app, false), entry(app, true), entry(other, false), entry(other, true))
	if want := []storage.Entry{entry(app, true), entry(app, false)}; !errors.Is(err, denied) || !slices.Equal(failed, want) {
		t.Errorf("got %v, %v, want %v, %v", failed, err, want, denied)
	}
	b.Before = nil
	if got := list(t, d, storage.Scope{}, ""); !slices.Equal(got, []string{"shop/" + app.Name()}) {
		t.Errorf("listed %q", got)
	}
	if _, err := readCore(d, mustGet(t, d, app)); err != nil {
		t.Errorf("the dump that is left: %v", err)
	}
}

func mustGet(t *testing.T, d *storage.Dumps, k storage.Key) *v1alpha1.CoreDump {
	t.Helper()
	rec, err := d.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestGetSaysWhatIsWrong(t *testing.T) {
	b := newBucket(t)
	d := storage.NewDumps(b)
	_, err := d.Get(t.Context(), app)
	storagetest.IsError(t, err, storage.ErrNotFound, app.Record())
	write(t, b, app.Record(), []byte("{}"))
	_, err = d.Get(t.Context(), app)
	storagetest.IsError(t, err, storage.ErrCorrupt, app.Record())
	replace(t, b, app.Record(), bytes.Repeat([]byte(" "), storage.MaxRecordSize+1))
	_, err = d.Get(t.Context(), app)
	storagetest.IsError(t, err, storage.ErrCorrupt, app.Record())
	if _, err = d.Get(t.Context(), storage.Key{Namespace: "..", Pod: "p", Container: "c", ID: app.ID}); !errors.Is(err, storage.ErrInvalid) {
		t.Errorf("got %v, want %v", err, storage.ErrInvalid)
	}
}

func write(t *testing.T, b storage.Bucket, key string, data []byte) {
	t.Helper()
	if _, err := b.Put(t.Context(), key, bytes.NewReader(data), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func replace(t *testing.T, b storage.Bucket, key string, data []byte) {
	t.Helper()
	write(t, b, key, data)
}

func readObject(t *testing.T, b storage.Bucket, key string) []byte {
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

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }
