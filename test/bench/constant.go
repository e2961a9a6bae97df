// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"example.io/coredump/test/cluster"
)

// compareRounds is how often ours and the constant server are downloaded from, in turn.
const compareRounds = 3

// compared is the same length from ours and from the server of constant bytes, by the same client.
type compared struct{ ours, constant sent }

// sent is the median of what was sent.
type sent struct {
	bytes     int64
	took, cpu time.Duration // cpu is the server's
}

func (s sent) mibPerSecond() float64 { return float64(s.bytes) / (1 << 20) / s.took.Seconds() }

func (c compared) rate() float64 { return c.ours.mibPerSecond() / c.constant.mibPerSecond() }
func (c compared) cpu() float64  { return c.ours.cpu.Seconds() / c.constant.cpu.Seconds() }

// constantAPI leads kube-apiserver to the server of constant bytes, as cluster.Install does to ours.
const constantAPI = `
apiVersion: v1
kind: Service
metadata: {name: constant, namespace: default}
spec: {type: ExternalName, externalName: localhost, ports: [{port: %[1]s}]}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.constant.example.io}
spec: {group: constant.example.io, version: v1, groupPriorityMinimum: 100, versionPriority: 10, insecureSkipTLSVerify: true, service: {name: constant, namespace: default, port: %[1]s}}
`

func constantPath(n int64) string { return fmt.Sprintf("/apis/constant.example.io/v1/bytes?n=%d", n) }

// startConstant runs the server of constant bytes, and waits until it answers through kube-apiserver.
func (d *largeDownload) startConstant(ctx context.Context) (*cluster.Process, error) {
	program := filepath.Join(d.dir, "constant")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "./test/bench/constant").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build constant: %w: %s", err, out)
	}
	ports, err := cluster.FreePorts(1)
	if err != nil {
		return nil, err
	}
	serving, err := d.ServingCertificate("constant", "constant.default.svc")
	if err != nil {
		return nil, err
	}
	manifest := filepath.Join(d.Dir, "constant.yaml")
	if err := os.WriteFile(manifest, fmt.Appendf(nil, constantAPI, ports[0]), 0o600); err != nil {
		return nil, err
	}
	if _, err := d.Kubectl(ctx, d.Admin, "apply", "-f", manifest); err != nil {
		return nil, err
	}
	p, err := cluster.StartProcess(d.Dir, "constant", nil, program, "127.0.0.1:"+ports[0], serving.Cert, serving.Key)
	if err != nil {
		return nil, err
	}
	return p, p.WaitFor(ctx, func(ctx context.Context) error {
		_, err := d.Kubectl(ctx, d.Admin, "get", "--raw", constantPath(1))
		return err
	})
}

// compare downloads the tar.zst and as many constant bytes, in turn, by kubectl and by curl.
func (d *largeDownload) compare(ctx context.Context, l *large) error {
	constant, err := d.startConstant(ctx)
	if err != nil {
		return err
	}
	defer constant.Kill()
	zst := d.path("dump", "format=tar.zst")
	n, err := d.length(ctx, zst)
	if err != nil {
		return err
	}
	for _, client := range []struct {
		name string
		sums *compared
		get  func(ctx context.Context, path string) *exec.Cmd
	}{
		{"kubectl", &l.kubectl, func(ctx context.Context, path string) *exec.Cmd {
			return d.user(ctx, d.dir, "kubectl", "get", "--raw", path)
		}},
		{"curl", &l.curl, d.curl},
	} {
		var ours, theirs []sent
		for range compareRounds {
			a, err := measureSent(client.get(ctx, zst), d.server, n)
			if err != nil {
				return fmt.Errorf("%w\n%s", err, d.server.Tail())
			}
			b, err := measureSent(client.get(ctx, constantPath(n)), constant, n)
			if err != nil {
				return fmt.Errorf("%w\n%s", err, constant.Tail())
			}
			ours, theirs = append(ours, a), append(theirs, b)
		}
		*client.sums = compared{median(ours), median(theirs)}
		for name, s := range map[string]sent{"tar.zst": client.sums.ours, "constant": client.sums.constant} {
			progress("%-8s %-8s %6.1fs %7.1f MiB/s, server's CPU %.2fs per GiB", client.name, name, s.took.Seconds(), s.mibPerSecond(), s.cpu.Seconds()/float64(s.bytes)*(1<<30))
		}
	}
	return nil
}

// measureSent runs a client and compares how many bytes it wrote.
func measureSent(client *exec.Cmd, server *cluster.Process, want int64) (s sent, err error) {
	before, err := cpuOf(server.PID())
	if err != nil {
		return s, err
	}
	counter := exec.Command("wc", "-c")
	if counter.Stdin, err = client.StdoutPipe(); err != nil {
		return s, err
	}
	start := time.Now()
	if err := client.Start(); err != nil {
		return s, err
	}
	out, err := counter.Output()
	if e := client.Wait(); e != nil {
		return s, fmt.Errorf("%v: %w", client.Args, e)
	}
	if err != nil {
		return s, err
	}
	s.took = time.Since(start)
	if _, err := fmt.Sscan(string(out), &s.bytes); err != nil {
		return s, err
	}
	if s.bytes != want {
		return s, fmt.Errorf("%v gave %d bytes, want %d", client.Args, s.bytes, want)
	}
	after, err := cpuOf(server.PID())
	s.cpu = after - before
	return s, err
}

// median takes each figure by itself.
func median(all []sent) sent {
	m := all[0]
	for _, of := range []func(*sent) *time.Duration{func(s *sent) *time.Duration { return &s.took }, func(s *sent) *time.Duration { return &s.cpu }} {
		var values []time.Duration
		for i := range all {
			values = append(values, *of(&all[i]))
		}
		slices.Sort(values)
		*of(&m) = values[len(values)/2]
	}
	return m
}

// atOnce has sixteen download the tar.zst at once.
func (d *largeDownload) atOnce(ctx context.Context, l *large) error {
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for range sixteen {
		group.Go(func() error {
			cmd := d.curl(ctx, d.path("dump", "format=tar.zst"))
			if err := cmd.Run(); err != nil {
				return fmt.Errorf("%v: %w", cmd.Args, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var err error
	l.peakMiB, err = peakMiB(d.server.PID())
	took := time.Since(start).Seconds()
	progress("%d at once    %6.1fs %7.1f MiB/s, apiserver %.1f MiB", sixteen, took, float64(sixteen*d.stored)/(1<<20)/took, l.peakMiB)
	return err
}
