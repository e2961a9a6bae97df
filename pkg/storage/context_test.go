// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/bundle"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/storagetest"
)

func aBundle(t *testing.T, text string) []byte {
	t.Helper()
	data, err := bundle.Encode([]bundle.File{{Name: "pod.json", Data: []byte(text)}, {Name: "proc/maps"}})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func commitWith(ctx context.Context, d *storage.Dumps, k storage.Key, core string, beside []byte) error {
	body := storage.Body{Reader: strings.NewReader(core), MaxSize: int64(len(core)), Context: beside}
	return d.Commit(ctx, k, body, func(storage.Object) (*v1alpha1.CoreDump, error) { return record(k, []byte(core)), nil })
}

func readContext(d *storage.Dumps, rec *v1alpha1.CoreDump) ([]byte, error) {
	r, err := d.OpenContext(context.Background(), rec)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestTheContextIsWrittenFirstAndDeletedLast(t *testing.T) {
	b := newBucket(t)
	d := storage.NewDumps(b)
	beside := aBundle(t, "{}")
	if err := commitWith(t.Context(), d, app, "core", beside); err != nil {
		t.Fatal(err)
	}
	rec := mustGet(t, d, app)
	sum := sha256.Sum256(beside)
	about := rec.Status.Context
	if about == nil || about.StoredSize != int64(len(beside)) || about.SHA256 != hex.EncodeToString(sum[:]) ||
		!slices.Equal(about.Files, []v1alpha1.ContextFile{{Name: "pod.json", Size: 2}, {Name: "proc/maps"}}) {
		t.Errorf("the record says %+v", about)
	}
	if got, err := readContext(d, rec); err != nil || !bytes.Equal(got, beside) {
		t.Errorf("read %q, %v", got, err)
	}
	var entries []storage.Entry
	for e, err := range d.Entries(t.Context(), storage.Scope{}, "") {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e.Entry)
	}
	if want := []storage.Entry{{Key: app, IsContext: true}, {Key: app}, {Key: app, IsRecord: true}}; !slices.Equal(entries, want) {
		t.Errorf("got the entries %v, want %v", entries, want)
	}
	if failed, err := d.Delete(t.Context(), entries...); err != nil || len(failed) != 0 {
		t.Fatal(failed, err)
	}
	var changes []string
	for _, c := range b.Calls() {
		if c.Op == storagetest.OpPut || c.Op == storagetest.OpDelete {
			changes = append(changes, string(c.Op)+" "+c.Key[len(app.Dir()+app.ID):])
		}
	}
	want := []string{"put .context.tar.zst", "put .core", "put .json", "delete .json", "delete .context.tar.zst", "delete .core"}
	if !slices.EqualFunc(changes, want, strings.EqualFold) {
		t.Errorf("got  %q\nwant %q", changes, want)
	}
}

func TestADumpWithoutAContextHasNone(t *testing.T) {
	b := newBucket(t)
	d := storage.NewDumps(b)
	rec := mustCommit(t, d, app, storage.CodecZstd, []byte("core"))
	if rec.Status.Context != nil {
		t.Errorf("the record says %+v", rec.Status.Context)
	}
	_, err := readContext(d, rec)
	storagetest.IsError(t, err, storage.ErrNotFound, app.Context())
	if _, err := b.Stat(t.Context(), app.Context()); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestARecordCannotClaimAContextThatWasNotCommitted(t *testing.T) {
	d := storage.NewDumps(newBucket(t))
	err := d.Commit(t.Context(), app, storage.Body{Reader: strings.NewReader("core")}, func(storage.Object) (*v1alpha1.CoreDump, error) {
		rec := record(app, []byte("core"))
		rec.Status.Context = &v1alpha1.StoredContext{StoredSize: 1, SHA256: strings.Repeat("ab", 32)}
		return rec, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := mustGet(t, d, app).Status.Context; got != nil {
		t.Errorf("the record says %+v", got)
	}
}

func TestAnAttemptThatWasKilledIsOverwrittenByTheNext(t *testing.T) {
	away := errors.New("away")
	for _, c := range []struct {
		name          string
		before, after string // the put that fails, before or after it is done
		next          []byte
	}{
		{"before the context", app.Context(), "", aBundle(t, "second")},
		{"behind the context", "", app.Context(), aBundle(t, "second")},
		{"behind the body", "", app.Body(storage.CodecNone), aBundle(t, "second")},
		{"behind the body, and then there is none", "", app.Body(storage.CodecNone), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBucket(t)
			d := storage.NewDumps(b)
			fail := func(at string) func(storagetest.Op, string) error {
				return func(op storagetest.Op, key string) error {
					if op == storagetest.OpPut && key == at {
						return away
					}
					return nil
				}
			}
			b.Before, b.After = fail(c.before), fail(c.after)
			if err := commitWith(t.Context(), d, app, "core", aBundle(t, "first, of another length")); !errors.Is(err, away) {
				t.Fatalf("got %v, want %v", err, away)
			}
			b.Before, b.After = nil, nil
			if got := list(t, d, storage.Scope{}, ""); len(got) != 0 {
				t.Errorf("listed %q", got)
			}
			if err := commitWith(t.Context(), d, app, "core", c.next); err != nil {
				t.Fatal(err)
			}
			rec := mustGet(t, d, app)
			got, err := readContext(d, rec)
			if c.next == nil {
				if rec.Status.Context != nil {
					t.Errorf("the record says %+v", rec.Status.Context)
				}
				storagetest.IsError(t, err, storage.ErrNotFound, app.Context())
			} else if err != nil || !bytes.Equal(got, c.next) {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

func TestACommittedDumpKeepsItsContext(t *testing.T) {
	d := storage.NewDumps(newBucket(t))
	first := aBundle(t, "first")
	if err := commitWith(t.Context(), d, app, "core", first); err != nil {
		t.Fatal(err)
	}
	if err := commitWith(t.Context(), d, app, "core", aBundle(t, "second")); !errors.Is(err, storage.ErrExists) {
		t.Errorf("again: got %v, want %v", err, storage.ErrExists)
	}
	if got, err := readContext(d, mustGet(t, d, app)); err != nil || !bytes.Equal(got, first) {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestAContextThatCouldNotBeReadIsNotCommitted(t *testing.T) {
	noise := make([]byte, storage.MaxContextSize)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	large, err := bundle.Encode([]bundle.File{{Name: "noise", Data: noise}})
	if err != nil {
		t.Fatal(err)
	}
	for name, beside := range map[string][]byte{"no bundle": []byte("GIF89a"), "cut": aBundle(t, "{}")[:20], "too large": large} {
		b := newBucket(t)
		err := commitWith(t.Context(), storage.NewDumps(b), app, "core", beside)
		if storagetest.IsError(t, err, storage.ErrInvalid, app.Context()); len(b.Calls()) != 0 {
			t.Errorf("%s: calls %v", name, b.Calls())
		}
	}
}

func TestAStoreThatHasLessOfAContextIsNotBelieved(t *testing.T) {
	b := &shortening{newBucket(t)}
	err := commitWith(t.Context(), storage.NewDumps(b), app, "core", aBundle(t, "{}"))
	storagetest.IsError(t, err, storage.ErrCorrupt, app.Context())
}

// shortening is a bucket that says it has a byte less than it was sent.
type shortening struct{ *storagetest.Faulty }

func (s *shortening) Put(ctx context.Context, key string, r io.Reader, opts storage.PutOptions) (storage.Object, error) {
	o, err := s.Faulty.Put(ctx, key, r, opts)
	o.Size--
	return o, err
}

func TestAContextThatIsNotWhatTheRecordSaysIsAnError(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"cut":            func(b []byte) []byte { return b[:len(b)-1] },
		"empty":          func([]byte) []byte { return nil },
		"longer":         func(b []byte) []byte { return append(b, 0) },
		"another byte":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"something else": func(b []byte) []byte { return bytes.Repeat([]byte("x"), len(b)) },
	} {
		b := newBucket(t)
		d := storage.NewDumps(b)
		if err := commitWith(t.Context(), d, app, "core", aBundle(t, "{}")); err != nil {
			t.Fatal(err)
		}
		replace(t, b, app.Context(), change(readObject(t, b, app.Context())))
		rec := mustGet(t, d, app)
		if _, err := readContext(d, rec); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: got %v", name, err)
		}
		if core, err := readCore(d, rec); err != nil || string(core) != "core" {
			t.Errorf("%s: the core: %q, %v", name, core, err)
		}
	}
}
