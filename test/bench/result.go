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
	name  string
	limit float64

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
		name: b.name, limit: b.limit, Unit: b.unit, Peer: b.peer, Runs: n,
		Value: (values[(n-1)/2] + values[n/2]) / 2, Min: values[0], Max: values[n-1],
	}
}

func (r result) exceeds(limit float64) error {
	if limit > 0 && r.Max > limit {
		return fmt.Errorf("%s: %.1f %s exceeds the limit of %g", r.name, r.Max, r.Unit, limit)
	}
	return nil
}

func (rs results) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tMEDIAN\tUNIT\tPEER\tRUNS\tMIN\tMAX\tLIMIT")
	for _, r := range rs {
		limit := ""
		if r.limit > 0 {
			limit = fmt.Sprint(r.limit)
		}
		fmt.Fprintf(w, "%s\t%.2f\t%s\t%s\t%d\t%.2f\t%.2f\t%s\n", r.name, r.Value, r.Unit, r.Peer, r.Runs, r.Min, r.Max, limit)
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
