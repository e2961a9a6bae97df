// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// benchmark is one row of the table.
type benchmark struct {
	name, unit string
	// peer is what ours is compared with, if anything.
	peer string
	// limit is what no run may exceed; 0: nothing is promised.
	limit float64
	// most and least bound the median; 0: nothing is promised. They are for times, which others on the machine make longer now and then.
	most, least float64
	// rounds is how many are enough, where that is less than what was asked for; 0: all.
	rounds int
	// asked is, for what takes so long that it does not belong to all, how the names must begin that are asked for.
	asked   string
	measure func(context.Context, *round) (float64, error)
}

var benchmarks = []benchmark{
	{name: "rss_nodehandler_mib", unit: "MiB", limit: 100, measure: func(ctx context.Context, r *round) (float64, error) {
		u, err := r.upload(ctx, oursZstd)
		return u.peakMiB, err
	}},
	{name: "rss_apiserver_mib", unit: "MiB", limit: 300, rounds: 1, measure: func(ctx context.Context, r *round) (float64, error) {
		d, err := r.download(ctx)
		return d.peakMiB, err
	}},
	{name: "upload_vs_awscli", unit: "ratio", peer: awscli, measure: ratio(oursZstd, awscli)},
	{name: "upload_vs_rclone", unit: "ratio", peer: rclone, measure: ratio(oursZstd, rclone)},
	{name: "upload_none_vs_awscli", unit: "ratio", peer: awscli, measure: ratio(oursNone, awscli)},
	{name: "upload_none_vs_rclone", unit: "ratio", peer: rclone, measure: ratio(oursNone, rclone)},
	{name: "upload_mib_s", unit: "MiB/s", measure: rate(oursZstd)},
	{name: "upload_none_mib_s", unit: "MiB/s", measure: rate(oursNone)},
	{name: "awscli_upload_mib_s", unit: "MiB/s", measure: rate(awscli)},
	{name: "rclone_upload_mib_s", unit: "MiB/s", measure: rate(rclone)},
	{name: "download_mib_s", unit: "MiB/s", rounds: 1, measure: func(ctx context.Context, r *round) (float64, error) {
		d, err := r.download(ctx)
		return d.mibPerSecond, err
	}},
	{name: "hold_pipe_vs_cat", unit: "ratio", peer: wayCat, most: 1.3, measure: holdRatio(wayPipe, wayCat)},
	{name: "hold_socket_vs_cat", unit: "ratio", peer: wayCat, measure: holdRatio(waySocket, wayCat)},
	{name: "hold_systemd_vs_pipe", unit: "ratio", peer: waySystemd, least: 1, measure: holdRatio(waySystemd, wayPipe)},
	{name: "hold_pigz_vs_pipe", unit: "ratio", peer: wayPigz, least: 4, measure: holdRatio(wayPigz, wayPipe)},
	{name: "hold_cat_ms", unit: "ms", measure: holdTime(wayCat)},
	{name: "hold_pipe_ms", unit: "ms", measure: holdTime(wayPipe)},
	{name: "hold_socket_ms", unit: "ms", measure: holdTime(waySocket)},
	{name: "hold_systemd_ms", unit: "ms", measure: holdTime(waySystemd)},
	{name: "hold_pigz_ms", unit: "ms", measure: holdTime(wayPigz)},
	{name: "corepipe_first_byte_ms", unit: "ms", most: 15, measure: func(ctx context.Context, r *round) (float64, error) {
		t, err := r.tiny(ctx)
		return t.firstByte, err
	}},
	{name: "hold_tiny_ms", unit: "ms", measure: func(ctx context.Context, r *round) (float64, error) {
		t, err := r.tiny(ctx)
		return t.held, err
	}},
	{name: "cpu_s_per_gib", unit: "s", measure: func(ctx context.Context, r *round) (float64, error) { return r.cpuPerGiB(ctx) }},
}

func init() {
	benchmarks = slices.Concat(benchmarks, largeBenchmarks, listBenchmarks(1_000, "1k", 0, false), listBenchmarks(10_000, "10k", 2, false), listBenchmarks(100_000, "100k", 0, true))
}

// rate is the throughput of an upload, in the core's bytes, however few of them are sent.
func rate(subject string) func(context.Context, *round) (float64, error) {
	return func(ctx context.Context, r *round) (float64, error) {
		u, err := r.upload(ctx, subject)
		return u.mibPerSecond, err
	}
}

// ratio is our throughput divided by theirs, of the same round.
func ratio(ours, theirs string) func(context.Context, *round) (float64, error) {
	return func(ctx context.Context, r *round) (float64, error) {
		a, err := r.upload(ctx, ours)
		if err != nil {
			return 0, err
		}
		b, err := r.upload(ctx, theirs)
		return a.mibPerSecond / b.mibPerSecond, err
	}
}

// choose gives the benchmarks whose names begin so: one, those that belong together, or all.
func choose(name string) (chosen []benchmark, err error) {
	var names []string
	for _, b := range benchmarks {
		if b.name == name {
			return []benchmark{b}, nil
		}
		if strings.HasPrefix(b.name, name) && strings.HasPrefix(name, b.asked) {
			chosen = append(chosen, b)
		}
		names = append(names, b.name)
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("--run=%s: must be the beginning of one of %s", name, strings.Join(names, ", "))
	}
	return chosen, nil
}

// measure goes through all benchmarks once a round. One that cannot be measured is left out, and an error in the end, as is
// one that exceeds its limit.
func measure(ctx context.Context, b *bench, chosen []benchmark, rounds int) (results, error) {
	values := make([][]float64, len(chosen))
	failures := make([]error, len(chosen))
	for n := range rounds {
		r := &round{bench: b}
		for i, c := range chosen {
			if failures[i] != nil || c.rounds > 0 && n >= c.rounds {
				continue
			}
			value, err := c.measure(ctx, r)
			if err != nil {
				failures[i] = fmt.Errorf("%s: %w", c.name, err)
				fmt.Fprintln(os.Stderr, failures[i])
				continue
			}
			values[i] = append(values[i], value)
		}
	}
	rs := results{}
	for i, c := range chosen {
		if failures[i] == nil {
			rs = append(rs, summarize(c, values[i]))
			failures[i] = rs[len(rs)-1].breaks(c)
		}
	}
	return rs, errors.Join(failures...)
}
