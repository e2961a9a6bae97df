// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Command s3server is a real S3 server over a directory: versitygw's gateway, embedded. It prints
// nothing and runs until it gets SIGINT or SIGTERM. The directory's file system needs extended
// attributes (ext4, xfs, tmpfs have them); a bucket is a subdirectory.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "s3server:", err)
		os.Exit(1)
	}
}

func run() error {
	dir := flag.String("dir", "", "directory that holds the buckets")
	addr := flag.String("addr", "127.0.0.1:7070", "address to listen on")
	access := flag.String("access", os.Getenv("ROOT_ACCESS_KEY_ID"), "access key of the root account")
	secret := flag.String("secret", os.Getenv("ROOT_SECRET_ACCESS_KEY"), "secret key of the root account")
	iam := flag.String("iam-dir", "", "directory of further accounts; none if empty")
	cert := flag.String("tls-cert-file", "", "serving certificate; plain HTTP if empty")
	key := flag.String("tls-private-key-file", "", "key of the serving certificate")
	flag.Parse()

	backend, err := posix.New(*dir, meta.XattrMeta{}, posix.PosixOpts{CopyObjectThreshold: 5 << 30})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return embedgw.RunVersityGW(ctx, backend, &embedgw.Config{
		RootUserAccess: *access, RootUserSecret: *secret,
		Ports: []string{*addr}, IAMDir: *iam, CertFile: *cert, KeyFile: *key, Quiet: true,
		MaxConnections: 1000, MaxRequests: 1000, MultipartMaxParts: 10000,
		// In seconds. With an interval of zero, which is the default, pruning the cache takes a whole core.
		IAMCacheTTL: 120, IAMCachePrune: 3600,
	})
}
