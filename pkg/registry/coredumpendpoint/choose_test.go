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
	for range 4000 {
		q := download.Query{Latest: rnd.IntN(5)}
		long := q.Latest > 0 && rnd.IntN(2) == 0
		size := map[*v1alpha1.CoreDump]int64{}
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
			if size[d] = 1000; long {
				size[d] = rnd.Int64N(maxRecords / 2)
			}
			if err := c.add(d, size[d]); err != nil {
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
		var sum int64
		for _, d := range want {
			sum += size[d]
		}
		got, err := c.chosen()
		switch {
		case sum > maxRecords:
			if !apierrors.IsBadRequest(err) {
				t.Fatalf("%+v of %d, %d bytes: %v", q, n, sum, err)
			}
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

// What the latest are is not known before all dumps have come: long records of which enough newer ones follow are in nobody's way.
func TestTheLatestMayFollowLongRecords(t *testing.T) {
	const latest, long = 200, 400
	at := func(i int) *v1alpha1.CoreDump {
		d := example(rand.New(rand.NewPCG(1, 2)), i)
		d.Spec.Process.Time = metav1.NewTime(begin.Add(time.Duration(i) * time.Second))
		return d
	}
	for _, short := range []int{latest - 1, latest, latest + 1} {
		for name, order := range map[string]func(int) int{
			"the oldest first": func(i int) int { return i },
			"the newest first": func(i int) int { return long + short - 1 - i },
			"mixed":            func(i int) int { return i * 389 % (long + short) },
		} {
			c := newChooser(download.Query{Latest: latest}, "web-0")
			for i := range long + short {
				n := order(i)
				size := int64(1000)
				if n < long {
					size = maxRecords - latest*1000 // room for one of those at most
				}
				if err := c.add(at(n), size); err != nil {
					t.Fatal(err)
				}
				if c.size > maxRecords {
					t.Fatalf("%d bytes of records are held", c.size)
				}
			}
			dumps, err := c.chosen()
			if err != nil || len(dumps) != latest {
				t.Errorf("%d short ones, %s: %d dumps, %v", short, name, len(dumps), err)
			}
		}
	}
	c := newChooser(download.Query{Latest: latest}, "web-0")
	for i := range long {
		if err := c.add(at(i), maxRecords/2); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.chosen(); !apierrors.IsBadRequest(err) {
		t.Errorf("the latest are too long together: %v", err)
	}
}

// A pod can have records of any length, also of one that they just do not have room with. Choosing among them took a minute.
func TestChoosingTheLatestIsFast(t *testing.T) {
	const latest = 5000
	rnd := rand.New(rand.NewPCG(1, 2))
	c := newChooser(download.Query{Latest: latest}, "web-0")
	start := time.Now()
	for i := range 60_000 {
		if err := c.add(example(rnd, i), maxRecords/latest); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

// Whoever writes a record may write any time into it that there is.
func TestADumpOfTheYear0IsThereUnlessSinceSaysOtherwise(t *testing.T) {
	d := example(rand.New(rand.NewPCG(1, 2)), 1)
	d.Spec.Process.Time = metav1.Date(0, 5, 1, 0, 0, 0, 0, time.UTC)
	c := newChooser(download.Query{}, "web-0")
	if err := c.add(d, 1000); err != nil {
		t.Fatal(err)
	}
	if dumps, err := c.chosen(); err != nil || len(dumps) != 1 {
		t.Errorf("%d dumps, %v", len(dumps), err)
	}
}
