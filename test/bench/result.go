// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
)

// result is the measurements of a benchmark. Value is their median.
type result struct {
	name, promise string

	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Peer is what ours is compared with, empty if nothing.
	Peer string  `json:"peer"`
	Runs int     `json:"runs"`
	Min  float64 `json:"min"`
	Max  float64 `json:"max"`
}

type results []result

// summarize takes at least one value.
func summarize(b benchmark, values []float64) result {
	slices.Sort(values)
	n := len(values)
	return result{
		name: b.name, promise: b.promise(), Unit: b.unit, Peer: b.peer, Runs: n,
		Value: (values[(n-1)/2] + values[n/2]) / 2, Min: values[0], Max: values[n-1],
	}
}

// breaks tells whether the result breaks what the benchmark promises.
func (r result) breaks(b benchmark) error {
	switch {
	case b.limit > 0 && r.Max > b.limit:
		return fmt.Errorf("%s: %.1f %s exceeds the limit of %g", r.name, r.Max, r.Unit, b.limit)
	case b.most > 0 && r.Value > b.most:
		return fmt.Errorf("%s: a median of %.2f %s, at most %g is promised", r.name, r.Value, r.Unit, b.most)
	case b.least > 0 && r.Value < b.least:
		return fmt.Errorf("%s: a median of %.2f %s, at least %g is promised", r.name, r.Value, r.Unit, b.least)
	}
	return nil
}

// promise is what a benchmark promises, in short.
func (b benchmark) promise() string {
	switch {
	case b.limit > 0:
		return fmt.Sprintf("max <= %g", b.limit)
	case b.most > 0:
		return fmt.Sprintf("<= %g", b.most)
	case b.least > 0:
		return fmt.Sprintf(">= %g", b.least)
	}
	return ""
}

func (rs results) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tMEDIAN\tUNIT\tPEER\tRUNS\tMIN\tMAX\tPROMISED")
	for _, r := range rs {
		fmt.Fprintf(w, "%s\t%.2f\t%s\t%s\t%d\t%.2f\t%.2f\t%s\n", r.name, r.Value, r.Unit, r.Peer, r.Runs, r.Min, r.Max, r.promise)
	}
	_ = w.Flush()
}

// write makes an object of the results by name.
func (rs results) write(file string) error {
	object := map[string]result{}
	for _, r := range rs {
		object[r.name] = r
	}
	data, err := json.MarshalIndent(object, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}
