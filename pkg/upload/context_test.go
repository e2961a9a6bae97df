// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package upload

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/bundle"
	"example.io/coredump/pkg/corefile/corefiletest"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/storagetest"
)

func TestTheContextIsGatheredOnceTheRecordIsCompleteAndStoredBesideTheCore(t *testing.T) {
	var identified atomic.Bool
	r := start(t, nil, identify(func(context.Context, *v1alpha1.CoreDump) error { identified.Store(true); return nil }))
	d := &fakeDump{pod: "p", data: corefiletest.Core(5000, 1), context: func(ctx context.Context) ([]bundle.File, error) {
		if _, bounded := ctx.Deadline(); !bounded || !identified.Load() {
			t.Errorf("bounded %v, identified %v", bounded, identified.Load())
		}
		return []bundle.File{{Name: "log.txt", Data: []byte("the last line\n")}}, nil
	}}
	r.Offer(d)
	eventually(t, "it is stored", d.removed)
	rec := r.stored(t)["p"]
	if c := rec.Status.Context; c == nil || len(c.Files) != 1 || c.Files[0] != (v1alpha1.ContextFile{Name: "log.txt", Size: 14}) {
		t.Fatalf("got the context %+v", c)
	}
	in, err := storage.NewDumps(r.bucket.Bucket).OpenContext(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if files, err := bundle.Decode(in); err != nil || string(files[0].Data) != "the last line\n" {
		t.Errorf("got %q, %v", files, err)
	}
}

func TestADumpGoesWithoutAContextThatCannotBeHad(t *testing.T) {
	noise := make([]byte, storage.MaxContextSize)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	r := start(t, nil, nobody{})
	dumps := []*fakeDump{
		{pod: "fails", context: func(context.Context) ([]bundle.File, error) { return nil, errors.New("no such container") }},
		{pod: "empty", context: func(context.Context) ([]bundle.File, error) { return nil, nil }},
		{pod: "climbs", context: func(context.Context) ([]bundle.File, error) { return []bundle.File{{Name: "../x"}}, nil }},
		{pod: "large", context: func(context.Context) ([]bundle.File, error) { return []bundle.File{{Name: "x", Data: noise}}, nil }},
		{pod: "none"},
	}
	for _, d := range dumps {
		d.data = corefiletest.Core(5000, 1)
		r.Offer(d)
	}
	eventually(t, "all are done with", r.empty)
	stored := r.stored(t)
	for _, d := range dumps {
		if rec := stored[d.pod]; rec == nil || rec.Status.Context != nil || !d.removed() || d.opens.Load() != 1 {
			t.Errorf("%s: got %+v after %d attempts", d.pod, rec, d.opens.Load())
		}
	}
}

func TestAContextThatCannotBePutIsTriedAgainWithItsDump(t *testing.T) {
	var failed atomic.Bool
	r := start(t, func(_ *Options, b *storagetest.Faulty) {
		b.Before = func(op storagetest.Op, key string) error {
			if e, _ := storage.ParseKey(key); op == storagetest.OpPut && e.IsContext && failed.CompareAndSwap(false, true) {
				return &storage.Error{Op: "put", Key: key, Kind: storage.ErrUnavailable}
			}
			return nil
		}
	}, nobody{})
	d := &fakeDump{pod: "p", data: corefiletest.Core(5000, 1), context: func(context.Context) ([]bundle.File, error) {
		return []bundle.File{{Name: "pod.json", Data: []byte("{}")}}, nil
	}}
	r.Offer(d)
	eventually(t, "it is stored", d.removed)
	if rec := r.stored(t)["p"]; rec.Status.Context == nil || !failed.Load() || d.opens.Load() != 2 {
		t.Errorf("got %+v after %d attempts", rec.Status.Context, d.opens.Load())
	}
}
