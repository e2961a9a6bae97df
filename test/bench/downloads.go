// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"example.io/coredump/test/cluster"
)

const (
	// downloaders is how many download at once.
	downloaders = 8
	// downloadPatience bounds all of them together.
	downloadPatience = 30 * time.Minute
)

// download is how it went.
type download struct {
	mibPerSecond float64 // of the core's bytes, all downloads together
	peakMiB      float64 // of apiserver
}

// download lets several clients download the core at once as tar.gz, the default, which is the format that needs the most memory: the
// server decompresses zstd and compresses with gzip for each of them. The clients talk to apiserver directly, with client
// certificates that it verifies against the real kube-apiserver.
func (r *round) download(ctx context.Context) (d download, err error) {
	if r.downloads != nil {
		return *r.downloads, nil
	}
	if err := r.needCore(); err != nil {
		return d, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, downloadPatience, fmt.Errorf("not downloaded within %s", downloadPatience))
	defer cancel()
	defer func() { err = errors.Join(err, r.emptyStore()) }()
	if _, _, err := r.runNodeHandler(ctx, r.core, "--compression="+oursZstd); err != nil {
		return d, fmt.Errorf("upload: %w", err)
	}
	c, err := r.startControl(ctx, 0)
	defer c.stop()
	if err != nil {
		return d, err
	}
	server, err := c.system.StartAPIServer(ctx)
	if err != nil {
		return d, err
	}
	client, err := newClient(c.Cluster)
	if err != nil {
		return d, err
	}
	url := fmt.Sprintf("%s/apis/coredump.example.io/v1alpha1/namespaces/%s/coredumpendpoints/%s/dump", c.system.APIServerURL(), namespace, pod)
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for range downloaders {
		group.Go(func() error { return fetch(ctx, client, url) })
	}
	if err := group.Wait(); err != nil {
		return d, fmt.Errorf("%w\n%s", err, server.Tail())
	}
	took := time.Since(start)
	d.mibPerSecond = float64(downloaders*r.size) / (1 << 20) / took.Seconds()
	d.peakMiB, err = peakMiB(server.PID())
	progress("%d downloads    %6.1fs %7.1f MiB/s %6.1f MiB", downloaders, took.Seconds(), d.mibPerSecond, d.peakMiB)
	r.downloads = &d
	return d, err
}

// newClient is somebody with cluster-wide rights, who sees the dumps of namespaces that do not exist.
func newClient(c *cluster.Cluster) (*http.Client, error) {
	pair, err := c.ClientCertificate("bench", "system:masters")
	if err != nil {
		return nil, err
	}
	certificate, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(c.CA())
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}},
	}}, nil
}

// fetch reads the answer to its end, which the server reaches only when all is sent.
func fetch(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return fmt.Errorf("GET %s: %s: %s", url, resp.Status, text)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	return nil
}

// ready is nil when the URL answers with 200.
func ready(ctx context.Context, url string) error { return fetch(ctx, http.DefaultClient, url) }
