// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo shows the main job on this machine: a process crashes, the kernel writes its core into the
// watched directory, and a tenant downloads it with kubectl and nothing but the right to do so.
//
// It needs root, for core_pattern, and three directories from the environment: COREDUMP_BIN (our
// programs), COREDUMP_CONTROLPLANE (kube-apiserver, etcd, kubectl) and COREDUMP_S3SERVER (the S3 server's
// program). "make demo" sees to them. With DEMO_EXIT=1 it ends when it has shown everything, otherwise it stays up until Ctrl-C.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "coredump-test-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{dir: dir, out: os.Stdout}
	defer d.stop()
	if err := d.setUp(ctx); err != nil {
		return err
	}
	if err := d.show(ctx); err != nil {
		return err
	}
	if os.Getenv("DEMO_EXIT") != "" {
		return nil
	}
	d.invite()
	<-ctx.Done()
	return nil
}
