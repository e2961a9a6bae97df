// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.io/coredump/test/cluster"
)

// hostSettings are what the node handler may change.
func hostSettings() string {
	var all []string
	for _, name := range []string{"kernel/core_pattern", "kernel/core_pipe_limit", "fs/suid_dumpable"} {
		value, _ := os.ReadFile("/proc/sys/" + name)
		all = append(all, name+" = "+strings.TrimSpace(string(value)))
	}
	return strings.Join(all, "\n")
}

// hostPlaces are the directories of the node handler on the host.
var hostPlaces = []string{"/opt/coredump", watched, "/run/coredump"}

// hostFiles are these directories, those that are there, and what is in them, with what can be told apart of it.
func hostFiles() (all []string) {
	for _, top := range hostPlaces {
		_ = filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return nil // not there
			}
			if path == top {
				all = append(all, top)
			} else if info, err := e.Info(); err == nil {
				all = append(all, fmt.Sprint(path, " ", info.Mode(), " ", info.Size(), " ", info.ModTime().UnixNano()))
			}
			return nil
		})
	}
	return all
}

// asBefore fails where the host is not as it was before the node handler came. A directory of ours that was there, empty, may be gone.
func (f *fixture) asBefore(t *testing.T, said string) {
	t.Helper()
	if got := hostSettings(); got != f.before {
		t.Errorf("the host has\n%s\nhad\n%s\nuninstall said %s", got, f.before, said)
	}
	got := hostFiles()
	for _, file := range got {
		if !slices.Contains(f.beforeFiles, file) {
			t.Errorf("the host has %s, had %q\nuninstall said %s", file, f.beforeFiles, said)
		}
	}
	for _, file := range f.beforeFiles {
		if !slices.Contains(got, file) && !slices.Contains(hostPlaces, file) {
			t.Errorf("the host has no %s any more\nuninstall said %s", file, said)
		}
	}
}

// uninstall gives the host back as docs/install.md says, by artifacts/uninstall after the DaemonSet is gone. The next deployment finds a host that nobody has
// touched. Gives what the program said.
func (f *fixture) uninstall(t *testing.T) string {
	t.Helper()
	f.admin(t, "delete", "daemonset", "-n", cluster.SystemNamespace, "coredump-nodehandler", "--ignore-not-found")
	f.awaitNoHandler(t)
	overlay := filepath.Join(f.deployment.Dir, "artifacts", "uninstall")
	f.admin(t, "apply", "-k", overlay)
	_, err := f.cluster.Kubectl(t.Context(), f.cluster.Admin, "rollout", "status", "-n", "coredump-uninstall", "daemonset/coredump-uninstall", "--timeout=60s")
	said, _ := f.cluster.Kubectl(t.Context(), f.cluster.Admin, "logs", "-n", "coredump-uninstall", "daemonset/coredump-uninstall", "-c", "uninstall")
	if err != nil {
		t.Errorf("%v\nuninstall said %s", err, said)
	}
	f.admin(t, "delete", "-k", overlay)
	return string(said)
}

// awaitNoHandler waits until no node handler runs.
func (f *fixture) awaitNoHandler(t *testing.T) {
	t.Helper()
	await(t, func(context.Context) error {
		if pids := nodeHandlers(); len(pids) > 0 {
			return fmt.Errorf("still there: %v", pids)
		}
		return nil
	})
}

// uninstallAfterKill is what the tests of a mode end with.
func uninstallAfterKill(t *testing.T) {
	shared.killNodeHandler(t)
	shared.asBefore(t, shared.uninstall(t))
}

func TestTheHostIsAsItWasAfterKillUpgradeAndUninstall(t *testing.T) {
	f := &shared
	f.enter(t, pipe)
	ns := f.namespace(t, "upgraded")
	user := f.user(t, ns)
	first := hostSettings()
	if first == f.before {
		t.Fatalf("nothing is installed:\n%s", first)
	}
	f.killNodeHandler(t)
	f.upgrade(t)
	await(t, func(context.Context) error {
		if now := hostSettings(); now == first {
			return fmt.Errorf("still the version before:\n%s", now)
		}
		return nil
	})
	isOfCrash(t, f.download(t, user, f.awaitDump(t, pipe, user, f.create(t, pipe, crashing(ns, "after", "/crash", "-m", "4")))), 4, 1)
	f.killNodeHandler(t)
	f.asBefore(t, f.uninstall(t))
}

// upgrade replaces the node handler's image by one with another corepipe.
func (f *fixture) upgrade(t *testing.T) {
	t.Helper()
	other := filepath.Join(t.TempDir(), "corepipe")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=v0.2.0", "-o", other, "./cmd/corepipe")
	build.Dir = f.repo
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	image := cluster.Image{
		Name:  "registry.example.io/coredump/nodehandler:v0.2.0",
		Files: map[string]string{"nodehandler": filepath.Join(f.bin, "nodehandler"), "corepipe": other}, Entrypoint: []string{"/nodehandler"},
	}
	if err := f.node.LoadImage(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	f.admin(t, "set", "image", "-n", cluster.SystemNamespace, "daemonset/coredump-nodehandler", "nodehandler="+image.Name)
	f.admin(t, "rollout", "status", "-n", cluster.SystemNamespace, "daemonset/coredump-nodehandler", "--timeout=60s")
}

func TestAHostThatForbidsDumpsIsRespectedUnlessForced(t *testing.T) {
	f := &shared
	const forbidden = "|/bin/false"
	f.uninstall(t)
	if err := setPattern(forbidden); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := setPattern(hostPattern); err != nil {
			t.Error(err)
		}
	})
	f.enter(t, pipe)
	await(t, func(ctx context.Context) error {
		if out, err := f.cluster.Kubectl(ctx, f.cluster.Admin, "describe", "node", cluster.NodeName); err != nil || !strings.Contains(string(out), "CoreDumpHostSettingsRefused") {
			return fmt.Errorf("no Event CoreDumpHostSettingsRefused on the node (%v):\n%s", err, out)
		}
		return nil
	})
	const capturing = "coredump_nodehandler_capturing"
	if now := f.metrics(t); now[capturing] != 0 {
		t.Errorf("%s is %v, want 0", capturing, now[capturing])
	}
	if now := hostSettings(); !strings.Contains(now, "= "+forbidden+"\n") {
		t.Errorf("the host has %s", now)
	}
	f.enter(t, pipe.with("--force-core-pattern"))
	await(t, func(context.Context) error {
		if now := hostSettings(); !strings.Contains(now, "corepipe") {
			return fmt.Errorf("not replaced:\n%s", now)
		}
		return nil
	})
	if now := f.metrics(t); now[capturing] != 1 {
		t.Errorf("%s is %v, want 1", capturing, now[capturing])
	}
	ns := f.namespace(t, "forced")
	user := f.user(t, ns)
	f.awaitDump(t, pipe, user, f.create(t, pipe, crashing(ns, "forced", "/crash")))
	said := f.uninstall(t)
	if now := hostSettings(); !strings.Contains(now, "= "+forbidden+"\n") {
		t.Errorf("the host has %s\nuninstall said %s", now, said)
	}
}
