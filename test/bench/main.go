// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Command bench measures what the project promises: how much memory nodehandler and apiserver need for a large dump,
// how fast an upload is beside the tools that one would use without us, how long a crashed process is held for its dump beside other handlers of core_pattern, how long lists take beside those of etcd,
// and downloads of a large core beside a server that does nothing but send. Ours and theirs are measured in
// turn, on the same file and the same S3 server, or the same process, so that only the ratio counts and not the machine. Everything happens on the loopback interface.
//
// "make bench" sets up what it needs: the environment variables COREDUMP_BIN, COREDUMP_S3SERVER and COREDUMP_CONTROLPLANE, see
// hack/test-env.sh, and Debian packages, see hack/install-deps.sh.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/apimachinery/pkg/api/resource"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends it also while it waits for what cannot be interrupted
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	name := flags.String("run", "", "run only the benchmarks whose names begin so")
	output := flags.String("output", "_output/bench.json", "file for the results")
	rounds := flags.Int("rounds", 3, "how often everything is measured")
	size := flags.String("size", "4Gi", "length of the core; the limits on memory are for any length")
	largeSize := flags.String("large-size", "8Gi", "length of the core of large_...")
	dir := flags.String("dir", os.TempDir(), "where the core and the store go; five times the core's length and four times the large one's must be free")
	if err := flags.Parse(args); err != nil {
		return err
	}
	chosen, err := choose(*name)
	if err != nil {
		return err
	}
	length, err := resource.ParseQuantity(*size)
	if err != nil {
		return fmt.Errorf("--size=%s: %w", *size, err)
	}
	large, err := resource.ParseQuantity(*largeSize)
	if err != nil {
		return fmt.Errorf("--large-size=%s: %w", *largeSize, err)
	}
	b, err := setUp(ctx, *dir, length.Value(), large.Value())
	defer func() { err = errors.Join(err, b.cleanUp()) }()
	if err != nil {
		return err
	}
	results, failed := measure(ctx, b, chosen, *rounds)
	results.print(os.Stdout)
	return errors.Join(failed, results.write(*output))
}
