// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"example.io/coredump/test/cluster"
)

// Who uploads: ours with two ways of compressing (zstd is the default), and the others, with their own defaults.
const (
	oursZstd = "zstd"
	oursNone = "none"
	awscli   = "aws s3 cp"
	rclone   = "rclone copyto"
)

// Where the core goes.
const (
	namespace = "bench"
	pod       = "pod-0"
	container = "app"
)

// uploadPatience bounds an upload, so that a benchmark comes to an end.
const uploadPatience = 15 * time.Minute

// upload is how one went.
type upload struct {
	mibPerSecond float64 // of the core's bytes
	peakMiB      float64 // ours only
}

// upload lets somebody upload the core into the empty store.
func (r *round) upload(ctx context.Context, subject string) (u upload, err error) {
	if u, ok := r.uploads[subject]; ok {
		return u, nil
	}
	if err := r.needCore(); err != nil {
		return u, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, uploadPatience, fmt.Errorf("not uploaded within %s", uploadPatience))
	defer cancel()
	if err := r.emptyStore(); err != nil {
		return u, err
	}
	defer func() { err = errors.Join(err, r.emptyStore()) }()
	var took time.Duration
	switch subject {
	case awscli:
		took, err = r.runPeer(ctx, "/usr/bin/aws", "--endpoint-url="+r.store.Endpoint, "s3", "cp", "--only-show-errors", r.core, "s3://"+cluster.Bucket+"/awscli/core")
	case rclone:
		remote := fmt.Sprintf(":s3,provider=Other,env_auth=true,region=us-east-1,endpoint='%s':%s/rclone/core", r.store.Endpoint, cluster.Bucket)
		// Two of its defaults do not fit this S3 server. It asks for "100 Continue" before each part and is not answered, so it
		// waits a second each time; and of parts of 5 MiB there are more than fit into an extended attribute of ext4, where
		// the server keeps a list of them. The parts of the others have 8 MiB.
		took, err = r.runPeer(ctx, "/usr/bin/rclone", "copyto", "--expect-continue-timeout=0", "--s3-chunk-size=8Mi", r.core, remote)
	default:
		took, u.peakMiB, err = r.runNodeHandler(ctx, r.core, "--compression="+subject)
	}
	if err != nil {
		return u, err
	}
	u.mibPerSecond = float64(r.size) / (1 << 20) / took.Seconds()
	progress("%-14s %6.1fs %7.1f MiB/s %6.1f MiB", subject, took.Seconds(), u.mibPerSecond, u.peakMiB)
	if r.uploads == nil {
		r.uploads = map[string]upload{}
	}
	r.uploads[subject] = u
	return u, nil
}

// runPeer runs the program of others from its start to its end.
func (b *bench) runPeer(ctx context.Context, program string, args ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(b.store.RootEnv(), "HOME="+b.dir, "PATH=/usr/bin:/bin", "AWS_DEFAULT_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true", "RCLONE_CONFIG=/dev/null")
	start := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(start)
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return took, nil
}

// runNodeHandler measures from the moment the core is in the watched directory to that when its record is in the bucket.
func (b *bench) runNodeHandler(ctx context.Context, core string, args ...string) (took time.Duration, peak float64, err error) {
	watched, err := os.MkdirTemp(b.dir, "watched-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(watched)
	target := filepath.Join(watched, namespace, pod, container)
	if err := os.MkdirAll(target, 0o700); err != nil {
		return 0, 0, err
	}
	// nodehandler deletes what it has uploaded, and takes no hard links: it needs a copy of its own.
	copied := filepath.Join(b.dir, "copy")
	if err := copyFile(copied, core); err != nil {
		return 0, 0, err
	}
	ports, err := cluster.FreePorts(1)
	if err != nil {
		return 0, 0, err
	}
	address := "127.0.0.1:" + ports[0]
	p, err := cluster.StartProcess(b.dir, "nodehandler", b.store.Env("coredump-nodehandler"), filepath.Join(b.bin, "nodehandler"), append(args,
		"--capture=file", "--store="+b.store.URL(), "--node-name=bench", "--kubernetes=off", "--settle=1s", "--listen-address="+address, watched)...)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	if err := p.WaitFor(ctx, func(ctx context.Context) error { return ready(ctx, "http://"+address+"/readyz") }); err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if err := os.Rename(copied, filepath.Join(target, "core-bench-1700000000-1-11")); err != nil {
		return 0, 0, err
	}
	if err := p.WaitFor(ctx, b.recorded); err != nil {
		return 0, 0, err
	}
	took = time.Since(start)
	peak, err = peakMiB(p.PID())
	return took, peak, err
}

var errNoRecord = errors.New("no record in the bucket")

// recorded looks for the record behind the server's back, which costs the server nothing.
func (b *bench) recorded(context.Context) error {
	records, err := filepath.Glob(filepath.Join(b.store.Data(), namespace, pod, container, "*.json"))
	if err == nil && len(records) == 0 {
		err = errNoRecord
	}
	return err
}

// copyFile makes a copy and waits until it is on the disk, so that writing it does not go on while somebody reads.
func copyFile(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Sync(), dst.Close())
}
