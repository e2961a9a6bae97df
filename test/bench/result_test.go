// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSummarize(t *testing.T) {
	for name, tc := range map[string]struct {
		values []float64
		want   float64
	}{
		"the median of one is it":                    {[]float64{3}, 3},
		"the median of three is the middle one":      {[]float64{9, 1, 2}, 2},
		"the median of four is between the two":      {[]float64{4, 1, 2, 8}, 3},
		"an outlier does not count for more than it": {[]float64{1, 1, 1000}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := summarize(benchmark{}, tc.values).Value; got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestOneRunAboveTheLimitBreaksIt(t *testing.T) {
	r := summarize(benchmark{name: "rss"}, []float64{90, 91, 101})
	if r.breaks(benchmark{limit: 100}) == nil || r.breaks(benchmark{limit: 102}) != nil || r.breaks(benchmark{}) != nil {
		t.Error("a limit is for every run")
	}
}

func TestPromisesOfTimesAreAboutTheMedian(t *testing.T) {
	r := summarize(benchmark{name: "hold"}, []float64{0.5, 1.2, 9})
	for _, b := range []benchmark{{most: 1.3}, {least: 1.1}, {most: 1.2, least: 1.2}} {
		if err := r.breaks(b); err != nil {
			t.Errorf("%+v: %v", b, err)
		}
	}
	for _, b := range []benchmark{{most: 1.1}, {least: 1.3}} {
		if r.breaks(b) == nil {
			t.Errorf("%+v: kept", b)
		}
	}
}

func TestResultsAreAnObjectByName(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new", "bench.json")
	rs := results{summarize(benchmark{name: "upload_vs_x", unit: "ratio", peer: "x"}, []float64{2})}
	if err := rs.write(file); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	want := `{
  "upload_vs_x": {
    "value": 2,
    "unit": "ratio",
    "peer": "x",
    "runs": 1,
    "min": 2,
    "max": 2
  }
}
`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
}
