// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
)

// user is a command of somebody who has kubectl, the plugin, and the right to everything. What it prints is thrown away unless the caller says otherwise.
func (d *largeDownload) user(ctx context.Context, dir, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/usr/bin/env", append([]string{program}, args...)...) // which looks into its own PATH, and becomes the program
	cmd.Dir = dir
	cmd.Env = []string{"KUBECONFIG=" + d.Admin, "HOME=" + d.Dir, "PATH=" + d.Assets + ":" + d.bin + ":/usr/bin:/bin"}
	return cmd
}

// curl downloads a path of kube-apiserver with a client certificate.
func (d *largeDownload) curl(ctx context.Context, path string) *exec.Cmd {
	return d.user(ctx, d.dir, "curl", "--no-progress-meter", "--fail", "--cacert", d.CA(), "--cert", d.pair.Cert, "--key", d.pair.Key, d.Server+path)
}

// length is what the server says that the answer has.
func (d *largeDownload) length(ctx context.Context, path string) (int64, error) {
	client, err := newClient(d.Cluster)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, d.Server+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ContentLength < 0 {
		return 0, fmt.Errorf("HEAD %s: %s, length %d", path, resp.Status, resp.ContentLength)
	}
	return resp.ContentLength, nil
}

// sameFile compares the only file in a directory with another.
func sameFile(ctx context.Context, dir, want string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) != 1 {
		return fmt.Errorf("there are %v in %s, want one file", entries, dir)
	}
	if out, err := exec.CommandContext(ctx, "cmp", filepath.Join(dir, entries[0].Name()), want).CombinedOutput(); err != nil {
		return fmt.Errorf("cmp: %w: %s", err, out)
	}
	return nil
}

func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}
