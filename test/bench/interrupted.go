// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"time"

	"example.io/coredump/test/cluster"
)

const (
	// wall is the --request-timeout of kube-apiserver that the plugin has to get by with.
	wall = 5 * time.Second
	// kills is how often the plugin is killed before it may finish. Restarts is when, instead, a server is, and the plugin goes on.
	kills = 20
)

// interrupted is how the plugin gets by with interruptions.
type interrupted struct {
	walled  time.Duration // how long it takes where kube-apiserver cuts every request after wall
	fetched float64       // bytes sent to it in spite of kills and restarts, per byte of the object
}

// interrupt restarts kube-apiserver with the short timeout, and has the plugin download the core: once in peace, and once killed and cut off all the time.
func (d *largeDownload) interrupt(ctx context.Context, i *interrupted) error {
	if err := d.RestartAPIServer(ctx, wall); err != nil {
		return err
	}
	if err := d.server.WaitFor(ctx, d.served); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(d.dir, "interrupted-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	start := time.Now()
	if err := d.download(ctx, dir).wait(); err != nil {
		return err
	}
	i.walled = time.Since(start)
	progress("cut every %s %6.1fs", wall, i.walled.Seconds())
	if err := errors.Join(sameFile(ctx, dir, d.largeFile()), emptyDir(dir)); err != nil {
		return err
	}
	before, err := cluster.Sent(d.Dir)
	if err != nil {
		return err
	}
	if err := d.disturb(ctx, dir, i.walled); err != nil {
		return err
	}
	after, err := cluster.Sent(d.Dir)
	if err != nil {
		return err
	}
	i.fetched = float64(after-before) / float64(d.stored)
	progress("killed %d times, servers restarted: sent %.3f of the object", kills, i.fetched)
	return sameFile(ctx, dir, d.largeFile())
}

// disturb kills the plugin at random moments, restarts the servers while it runs, and lets it finish.
func (d *largeDownload) disturb(ctx context.Context, dir string, takes time.Duration) (err error) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := range kills {
		p := d.download(ctx, dir)
		after := time.Duration(rnd.Int64N(int64(takes) / kills))
		select {
		case <-p.done:
			return fmt.Errorf("complete, or failed, before kill %d of %d: %w", n+1, kills, p.wait())
		case <-time.After(after):
		}
		switch n {
		case kills / 3:
			if err := d.RestartAPIServer(ctx, wall); err != nil {
				return err
			}
		case 2 * kills / 3:
			d.system.Stop()
			if d.server, err = startLargeServer(ctx, d.control); err != nil {
				return err
			}
		}
		p.kill()
	}
	return d.download(ctx, dir).wait()
}

// plugin is kubectl coredump download while it runs.
type plugin struct {
	cmd  *exec.Cmd
	said bytes.Buffer
	done chan struct{}
	err  error // when done is closed
}

func (d *largeDownload) download(ctx context.Context, dir string) *plugin {
	p := &plugin{done: make(chan struct{})}
	p.cmd = d.user(ctx, dir, "kubectl-coredump", "download", "-n", namespace, d.name)
	p.cmd.Stderr = &p.said
	p.err = p.cmd.Start()
	go func() {
		defer close(p.done)
		if p.err == nil {
			p.err = p.cmd.Wait()
		}
	}()
	return p
}

func (p *plugin) kill() {
	if p.cmd.Process != nil {
		_ = p.cmd.Process.Kill()
	}
	<-p.done
}

func (p *plugin) wait() error {
	<-p.done
	if p.err != nil {
		return fmt.Errorf("%v: %w: %s", p.cmd.Args, p.err, p.said.Bytes())
	}
	return nil
}

// served is nil when apiserver answers through kube-apiserver.
func (d *largeDownload) served(ctx context.Context) error {
	_, err := d.length(ctx, d.path("dump", "format=tar.zst"))
	return err
}
