// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package coredumpendpoint

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/download"
	"example.io/coredump/pkg/storage"
)

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func example(rnd *rand.Rand, n int) *v1alpha1.CoreDump {
	d := &v1alpha1.CoreDump{}
	d.Name = fmt.Sprintf("web-0.app.%06d", n)
	d.Spec.ContainerName, d.Spec.PodUID = fmt.Sprintf("c%d", rnd.IntN(3)), fmt.Sprintf("u%d", rnd.IntN(3))
	d.Spec.Process.Time = metav1.NewTime(begin.Add(time.Duration(rnd.IntN(40)) * time.Minute))
	return d
}

// What is chosen while dumps come is what would be chosen of all of them.
func TestChosenIsWhatTheQueryAsksFor(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		q := download.Query{Latest: rnd.IntN(5)}
		if rnd.IntN(2) == 0 {
			q.Container = fmt.Sprintf("c%d", rnd.IntN(4))
		}
		if rnd.IntN(2) == 0 {
			q.UID = fmt.Sprintf("u%d", rnd.IntN(4))
		}
		if rnd.IntN(2) == 0 {
			q.Since = begin.Add(time.Duration(rnd.IntN(50)) * time.Minute)
		}
		c := newChooser(q, "web-0")
		var want []*v1alpha1.CoreDump
		n := rnd.IntN(30)
		for i := range n {
			d := example(rnd, i)
			if err := c.add(d, 1000); err != nil {
				t.Fatal(err)
			}
			if (q.Container == "" || d.Spec.ContainerName == q.Container) && (q.UID == "" || d.Spec.PodUID == q.UID) && !d.Spec.Process.Time.Time.Before(q.Since) {
				want = append(want, d)
			}
		}
		if q.Latest > 0 {
			byTime := slices.Clone(want)
			slices.SortStableFunc(byTime, func(a, b *v1alpha1.CoreDump) int { return b.Spec.Process.Time.Compare(a.Spec.Process.Time.Time) })
			byTime = byTime[:min(q.Latest, len(byTime))]
			want = slices.DeleteFunc(want, func(d *v1alpha1.CoreDump) bool { return !slices.Contains(byTime, d) })
		}
		got, err := c.chosen()
		switch {
		case n == 0 && !errors.Is(err, storage.ErrNotFound), len(want) == 0 && err == nil:
			t.Fatalf("%+v of %d: %v", q, n, err)
		case len(want) > 0 && (err != nil || !slices.Equal(got, want)):
			t.Fatalf("%+v: chose %d, want %d: %v", q, len(got), len(want), err)
		}
	}
}

// Pods whose records are very long cannot fill the memory of the server: that many are refused, and the newest of them are not.
func TestChosenRecordsAreBounded(t *testing.T) {
	const size = 100 << 10
	rnd := rand.New(rand.NewPCG(1, 2))
	all, newest := newChooser(download.Query{}, "web-0"), newChooser(download.Query{Latest: 3}, "web-0")
	var err error
	for i := range 10_000 {
		d := example(rnd, i)
		if err == nil {
			err = all.add(d, size)
		}
		if err := newest.add(d, size); err != nil {
			t.Fatal(err)
		}
		if held := max(len(all.kept), len(newest.kept)); held > maxRecords/size+1 {
			t.Fatalf("%d records are held", held)
		}
	}
	if !apierrors.IsBadRequest(err) {
		t.Errorf("all of them: %v", err)
	}
	if dumps, err := newest.chosen(); err != nil || len(dumps) != 3 {
		t.Errorf("%d dumps, %v", len(dumps), err)
	}
}
