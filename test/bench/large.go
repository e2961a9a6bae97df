// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"example.io/coredump/test/cluster"
)

const (
	// largePatience bounds all that is done with the large core.
	largePatience = 60 * time.Minute
	// noTimeout is a --request-timeout of kube-apiserver that nothing here comes near to.
	noTimeout = 2 * time.Hour
	// sixteen is how many download it at once.
	sixteen = 16
	// abundant is how many downloads the server allows, so that it refuses none of these.
	abundant = 64
)

// large is how downloads of the large core went, all of them through kube-apiserver.
type large struct {
	kubectl, curl compared
	peakMiB       float64       // of apiserver, after sixteen at once
	plugin        time.Duration // kubectl coredump download: on the disk, decompressed, verified
	targz         time.Duration // kubectl get --raw of the tar.gz: on the disk, as it is
	unpacked      time.Duration // the same, unpacked on the way, and its SHA-256 computed: as far as the plugin is
	retar         time.Duration // tar -cz of the core, here
	interrupted
}

// large downloads a core of largeSize bytes in every way that there is a promise about.
func (r *round) large(ctx context.Context) (l large, err error) {
	switch {
	case r.largeFailed:
		return l, errSaidAlready
	case r.larges != nil:
		return *r.larges, nil
	}
	defer func() { r.largeFailed = err != nil }()
	ctx, cancel := context.WithTimeoutCause(ctx, largePatience, fmt.Errorf("not done within %s", largePatience))
	defer cancel()
	core, err := r.needLarge()
	if err != nil {
		return l, err
	}
	if err := r.emptyStore(); err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, r.emptyStore()) }()
	if _, _, err := r.runNodeHandler(ctx, core, "--compression="+oursZstd); err != nil {
		return l, fmt.Errorf("upload: %w", err)
	}
	c, err := r.startControl(ctx, noTimeout)
	defer c.stop()
	if err != nil {
		return l, err
	}
	server, err := startLargeServer(ctx, c)
	if err != nil {
		return l, err
	}
	d := &largeDownload{round: r, control: c, server: server}
	if d.name, d.stored, err = r.stored(); err != nil {
		return l, err
	}
	if d.pair, err = c.ClientCertificate("bench", "system:masters"); err != nil {
		return l, err
	}
	progress("the core of %d MiB is stored in %d MiB", r.largeSize>>20, d.stored>>20)
	err = errors.Join(
		d.compare(ctx, &l),
		d.atOnce(ctx, &l),
		d.race(ctx, core, &l),
		d.interrupt(ctx, &l.interrupted),
	)
	r.larges = &l
	return l, err
}

// errSaidAlready is for what is measured together: that it failed is said once.
var errSaidAlready = errors.New("the same")

// largeDownload is what the measurements of the large core have in common.
type largeDownload struct {
	*round
	*control
	server *cluster.Process // apiserver
	pair   cluster.Pair     // of somebody with the right to everything
	name   string           // of the dump
	stored int64            // bytes of the core, compressed
}

func startLargeServer(ctx context.Context, c *control) (*cluster.Process, error) {
	return c.system.StartAPIServer(ctx, fmt.Sprintf("--max-concurrent-downloads=%d", abundant), fmt.Sprintf("--max-concurrent-downloads-per-user=%d", abundant))
}

func (b *bench) largeFile() string { return filepath.Join(b.dir, "large") }

// needLarge makes the large core, once.
func (b *bench) needLarge() (string, error) {
	core := b.largeFile()
	if _, err := os.Stat(core); err == nil {
		return core, nil
	}
	if err := checkRoom(b.dir, 4*b.largeSize); err != nil {
		return "", err
	}
	progress("making a core of %d MiB", b.largeSize>>20)
	return core, makeCore(core, b.largeSize)
}

// stored gives the name of the only dump in the store, and how long its body is.
func (b *bench) stored() (name string, size int64, err error) {
	err = filepath.WalkDir(b.store.Data(), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.Contains(path, filepath.Join(namespace, pod)+"/") {
			return err
		}
		if id, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			name = pod + "." + container + "." + id
			return nil
		}
		info, err := e.Info()
		if err == nil {
			size = max(size, info.Size())
		}
		return err
	})
	if err == nil && (name == "" || size == 0) {
		err = errNoRecord
	}
	return name, size, err
}

// path is that of the dump in the API.
func (d *largeDownload) path(subresource, query string) string {
	return fmt.Sprintf("/apis/coredump.example.io/v1alpha1/namespaces/%s/coredumps/%s/%s?%s", namespace, d.name, subresource, query)
}

// race downloads the core with the plugin, and as users of other systems have it.
func (d *largeDownload) race(ctx context.Context, core string, l *large) error {
	dir, err := os.MkdirTemp(d.dir, "race-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, way := range []struct {
		name    string
		took    *time.Duration
		program string
		args    []string
	}{
		{"kubectl coredump download", &l.plugin, "kubectl", []string{"coredump", "download", "-n", namespace, d.name}},
		{"kubectl get --raw …tar.gz", &l.targz, "sh", []string{"-c", `kubectl get --raw "$0" >core.tar.gz`, d.path("dump", "format=tar.gz")}},
		{"… | tar -xz, sha256sum", &l.unpacked, "bash", []string{"-c", `set -o pipefail; kubectl get --raw "$0" | tar -xz && find . -type f -size +1M -exec sha256sum {} +`, d.path("dump", "format=tar.gz")}},
		{"tar -cz", &l.retar, "sh", []string{"-c", `tar -cz -f - -C "$(dirname "$0")" "$(basename "$0")" | cat >retarred.tar.gz`, core}},
	} {
		syscall.Sync()
		start := time.Now()
		cmd := d.user(ctx, dir, way.program, way.args...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s\n%s", way.name, err, out, d.server.Tail())
		}
		*way.took = time.Since(start)
		progress("%-26s %6.1fs", way.name, way.took.Seconds())
		if way.took == &l.plugin {
			if err := sameFile(ctx, dir, core); err != nil {
				return err
			}
		}
		if err := emptyDir(dir); err != nil {
			return err
		}
	}
	return nil
}

func largeSeconds(of func(large) time.Duration) func(context.Context, *round) (float64, error) {
	return func(ctx context.Context, r *round) (float64, error) {
		l, err := r.large(ctx)
		return of(l).Seconds(), err
	}
}

func largeValue(of func(large) float64) func(context.Context, *round) (float64, error) {
	return func(ctx context.Context, r *round) (float64, error) {
		l, err := r.large(ctx)
		return of(l), err
	}
}

const (
	constantServer = "as many constant bytes"
	getRaw         = "kubectl get --raw …tar.gz"
	getUnpacked    = "kubectl get --raw …tar.gz | tar -xz"
	retar          = "tar -cz"
)

var largeBenchmarks = []benchmark{
	{name: "large_zst_vs_constant", unit: "ratio", peer: constantServer, least: 0.9, rounds: 1, measure: largeValue(func(l large) float64 { return l.kubectl.rate() })},
	{name: "large_zst_curl_vs_constant", unit: "ratio", peer: constantServer, least: 0.9, rounds: 1, measure: largeValue(func(l large) float64 { return l.curl.rate() })},
	{name: "large_zst_cpu_vs_constant", unit: "ratio", peer: constantServer, most: 1.5, rounds: 1, measure: largeValue(func(l large) float64 { return l.kubectl.cpu() })},
	{name: "large_zst_curl_cpu_vs_constant", unit: "ratio", peer: constantServer, most: 1.5, rounds: 1, measure: largeValue(func(l large) float64 { return l.curl.cpu() })},
	{name: "large_zst_mib_s", unit: "MiB/s", rounds: 1, measure: largeValue(func(l large) float64 { return l.kubectl.ours.mibPerSecond() })},
	{name: "large_constant_mib_s", unit: "MiB/s", rounds: 1, measure: largeValue(func(l large) float64 { return l.kubectl.constant.mibPerSecond() })},
	{name: "large_rss_apiserver_mib", unit: "MiB", limit: 200, rounds: 1, measure: largeValue(func(l large) float64 { return l.peakMiB })},
	{name: "large_unpacked_vs_plugin", unit: "ratio", peer: getUnpacked, least: 3, rounds: 1, measure: largeValue(func(l large) float64 { return l.unpacked.Seconds() / l.plugin.Seconds() })},
	{name: "large_targz_vs_plugin", unit: "ratio", peer: getRaw, rounds: 1, measure: largeValue(func(l large) float64 { return l.targz.Seconds() / l.plugin.Seconds() })},
	{name: "large_retar_vs_plugin", unit: "ratio", peer: retar, least: 3, rounds: 1, measure: largeValue(func(l large) float64 { return l.retar.Seconds() / l.plugin.Seconds() })},
	{name: "large_plugin_s", unit: "s", rounds: 1, measure: largeSeconds(func(l large) time.Duration { return l.plugin })},
	{name: "large_targz_s", unit: "s", rounds: 1, measure: largeSeconds(func(l large) time.Duration { return l.targz })},
	{name: "large_unpacked_s", unit: "s", rounds: 1, measure: largeSeconds(func(l large) time.Duration { return l.unpacked })},
	{name: "large_retar_s", unit: "s", rounds: 1, measure: largeSeconds(func(l large) time.Duration { return l.retar })},
	{name: "large_walled_s", unit: "s", rounds: 1, measure: largeSeconds(func(l large) time.Duration { return l.walled })},
	{name: "large_killed_fetched", unit: "ratio", peer: "bytes of the object", limit: 1.1, rounds: 1, measure: largeValue(func(l large) float64 { return l.fetched })},
}
