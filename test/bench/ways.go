// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"example.io/coredump/pkg/spool"
	"example.io/coredump/test/cluster"
)

// Who takes a dump from the kernel.
const (
	wayPipe    = "pipe"
	waySocket  = "socket"
	wayCat     = "cat >/dev/null"
	waySystemd = "systemd-coredump"
	wayPigz    = "pigz >file"
)

// pipeLimit is the same for all: with any but 0, the kernel holds the process until its dump's reader is done with it. Ours and systemd-coredump
// set 16.
const pipeLimit = "16"

// way is one that is in force.
type way interface {
	// prefer sets the priority of what runs already.
	prefer(priority int) error
	// finished waits until nothing is left to be done with the first n dumps.
	finished(ctx context.Context, n int) error
	stop() error
}

// startWay puts a way in force. dir is for all that it writes.
func (b *bench) startWay(ctx context.Context, name, dir string) (way, error) {
	switch name {
	case wayPipe, waySocket:
		return b.startNodeHandler(ctx, name, dir)
	case wayCat:
		return startScript(dir, "exec /bin/cat >/dev/null")
	case wayPigz:
		if _, err := os.Stat("/usr/bin/pigz"); err != nil {
			return nil, fmt.Errorf("%w: hack/install-deps.sh bench", err)
		}
		return startScript(dir, "exec /usr/bin/pigz >"+filepath.Join(dir, "core.gz"))
	case waySystemd:
		return startSystemd()
	}
	return nil, fmt.Errorf("no such way: %s", name)
}

func setSetting(name, value string) error {
	return os.WriteFile("/proc/sys/kernel/"+name, []byte(value), 0)
}

// setPattern has the kernel run a program.
func setPattern(pattern string) error {
	return errors.Join(setSetting("core_pipe_limit", pipeLimit), setSetting("core_pattern", pattern))
}

// script is a shell script: core_pattern itself has no shell.
type script struct{}

func startScript(dir, text string) (*script, error) {
	file := filepath.Join(dir, "handler")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		return nil, err
	}
	return &script{}, setPattern("|" + file)
}

func (*script) prefer(int) error                    { return nil }
func (*script) finished(context.Context, int) error { return nil } // before the process was let go
func (*script) stop() error                         { return nil } // the pattern is put back by whoever holds the settings

// nodeHandler is ours, as it is shipped.
type nodeHandler struct {
	*bench
	process *cluster.Process
	runtime *containerRuntime
	hostDir string
	spool   string
}

func (b *bench) startNodeHandler(ctx context.Context, mode, dir string) (n *nodeHandler, err error) {
	n = &nodeHandler{bench: b, hostDir: filepath.Join(dir, "h"), spool: filepath.Join(dir, "dumps", ".spool")}
	for _, d := range []string{n.hostDir, filepath.Dir(n.spool)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	if err := b.emptyStore(); err != nil {
		return nil, err
	}
	// The kernel's own pattern first: that of somebody else would be an original that is kept.
	if err := setPattern("core"); err != nil {
		return nil, err
	}
	ports, err := cluster.FreePorts(1)
	if err != nil {
		return nil, err
	}
	cri := filepath.Join(dir, "cri.sock")
	if n.runtime, err = startRuntime(cri); err != nil {
		return nil, err
	}
	address := "127.0.0.1:" + ports[0]
	n.process, err = cluster.StartProcess(dir, "nodehandler", b.store.Env("coredump-nodehandler"), filepath.Join(b.bin, "nodehandler"),
		"--capture="+mode, "--store="+b.store.URL(), "--node-name=bench", "--kubernetes=off", "--listen-address="+address,
		"--host-dir="+n.hostDir, "--cri-endpoint=unix://"+cri, "--corepipe="+filepath.Join(b.bin, "corepipe"), "--core-socket="+filepath.Join(dir, "s", "core.sock"), "--core-pipe-limit="+pipeLimit,
		"--heal-interval=1h", "--min-free=1Gi", "--max-per-hour=1000000", "--max-per-site-per-hour=1000000", "--max-per-namespace-per-hour=0", filepath.Dir(n.spool))
	if err != nil {
		n.runtime.stop()
		return nil, err
	}
	err = n.process.WaitFor(ctx, func(ctx context.Context) error {
		if pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern"); err != nil || !strings.Contains(string(pattern), dir) {
			return errors.Join(err, fmt.Errorf("core_pattern is still %q", pattern))
		}
		return ready(ctx, "http://"+address+"/readyz")
	})
	if err != nil {
		return nil, errors.Join(err, n.stop())
	}
	return n, nil
}

func (n *nodeHandler) prefer(priority int) error { return setPriority(n.process.PID(), priority) }

// finished waits for the records, the last things that are put, and until the spool is empty.
func (n *nodeHandler) finished(ctx context.Context, dumps int) error {
	return n.process.WaitFor(ctx, func(context.Context) error {
		records := 0
		err := filepath.WalkDir(n.store.Data(), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && strings.HasSuffix(path, ".json") {
				records++
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if records < dumps {
			return errNoRecord
		}
		for _, d := range []string{"incoming", "ready"} {
			if entries, err := os.ReadDir(filepath.Join(n.spool, d)); err != nil || len(entries) > 0 {
				return errors.Join(err, fmt.Errorf("%d entries in %s", len(entries), d))
			}
		}
		return nil
	})
}

// delivered is how the delivery of a dump ended.
type delivered struct {
	spool.Outcome
	err error
}

// watchOutcome reads what corepipe writes at its end, before the node handler has uploaded and removed it. The next dump must not be delivered before.
func (n *nodeHandler) watchOutcome(ctx context.Context) <-chan delivered {
	c := make(chan delivered, 1)
	go func() {
		for ctx.Err() == nil {
			found, _ := filepath.Glob(filepath.Join(n.spool, "ready", "*", spool.OutcomeFile))
			for _, name := range found {
				var d delivered
				if data, err := os.ReadFile(name); err == nil && json.Unmarshal(data, &d.Outcome) == nil {
					c <- d
					return
				}
			}
			time.Sleep(time.Millisecond)
		}
		c <- delivered{err: context.Cause(ctx)}
	}()
	return c
}

func (n *nodeHandler) stop() error {
	defer n.runtime.stop()
	return errors.Join(n.process.Stop(), setPattern("core"), n.emptyStore())
}
