// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Command nodehandler uploads the core dumps of a node to the object store.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/component-base/cli"

	"example.io/coredump/cmd/nodehandler/app"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	return cli.Run(app.NewCommand(ctx))
}
