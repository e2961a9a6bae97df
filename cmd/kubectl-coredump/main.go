// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Command kubectl-coredump is the kubectl plugin that lists, downloads and opens core dumps.
package main

import (
	"context"
	"os"
	"os/signal"

	"example.io/coredump/cmd/kubectl-coredump/app"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends it at once
	// The others are kept: who closes a terminal may send two.
	ctx, stop = signal.NotifyContext(ctx, app.Ends()...)
	defer stop()
	return app.New().Run(ctx, os.Args[1:])
}
