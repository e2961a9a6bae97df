// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Command gc removes old core dumps from the object store, by rules, and ends.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"example.io/coredump/cmd/gc/app"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return app.New().Run(ctx, os.Args[1:])
}
