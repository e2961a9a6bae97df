// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/test/cluster"
	"example.io/coredump/test/transcript"
)

// What docs/first-dump.md is about. No other test has this namespace.
const (
	shop      = "shop"
	shopPod   = "checkout"
	shopImage = "registry.example.io/shop/checkout:v1"
	toolImage = "registry.example.io/tools/gdb:1"
)

// TestTheTranscriptOfANewUser types what docs/first-dump.md shows, and compares what comes. With E2E_UPDATE=1 it writes what comes into the document instead.
func TestTheTranscriptOfANewUser(t *testing.T) {
	f := &shared
	document := filepath.Join(f.repo, "docs", "first-dump.md")
	content, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	f.enter(t, pipe)
	f.loadDebugger(t, toolImage)
	if err := f.node.LoadImage(t.Context(), cluster.Image{Name: shopImage, Files: map[string]string{"app/server": program("crash")}}); err != nil {
		t.Fatal(err)
	}
	f.namespace(t, shop)
	users := f.shopUsers(t)
	f.shopCrashes(t)

	shell := newShell(t, filepath.Join(users, "alice"), f.cluster.Assets+":/usr/bin:/bin") // without the plugin: that is what is installed
	as := ""
	var printed []string
	commands := transcript.Commands(string(content))
	for _, c := range commands {
		if c.As != as {
			as = c.As
			shell.run(t, "export KUBECONFIG="+filepath.Join(users, as, ".kube", "config"))
		}
		out := strings.ReplaceAll(transcript.Screen(shell.run(t, c.Line)), users, "/home")
		printed = append(printed, out)
		if d := transcript.Differs(c.Output, out); d != "" && os.Getenv("E2E_UPDATE") == "" {
			t.Errorf("$ %s\n%s\nAll of it:\n%s", c.Line, d, out)
		}
	}
	if len(commands) < 10 {
		t.Errorf("%d commands in %s", len(commands), document)
	}
	if os.Getenv("E2E_UPDATE") != "" {
		if err := os.WriteFile(document, []byte(transcript.Rewrite(string(content), printed)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// shopUsers makes the users of the document and their home directories, and gives the directory of these.
func (f *fixture) shopUsers(t *testing.T) string {
	t.Helper()
	home := filepath.Join(dir, "home")
	for name, roles := range map[string][]string{"alice": {"edit", "coredump-downloader"}, "bob": {"view"}} {
		for _, role := range roles {
			f.admin(t, "create", "rolebinding", "-n", shop, name+"-"+role, "--clusterrole="+role, "--user="+name)
		}
		config, err := f.cluster.Kubeconfig(name)
		if err != nil {
			t.Fatal(err)
		}
		copyFile(t, config, filepath.Join(home, name, ".kube", "config"))
	}
	copyFile(t, filepath.Join(f.bin, "kubectl-coredump"), filepath.Join(home, "alice", "Downloads", "kubectl-coredump"))
	copyFile(t, program("crash"), filepath.Join(home, "alice", "server"))
	return home
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err = errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, content, 0o700)); err != nil {
		t.Fatal(err)
	}
}

// shopCrashes lets the pod of the document crash, and waits until everything that the document shows is there.
func (f *fixture) shopCrashes(t *testing.T) {
	t.Helper()
	pod := crashing(shop, shopPod, "/app/server", "-m", "8", "-t", "3")
	pod.Spec.Containers[0].Image = shopImage
	pod.Labels = map[string]string{"app": shopPod}
	f.create(t, pipe, distroless(pod))
	f.awaitPod(t, shop, shopPod, ended)
	await(t, func(ctx context.Context) error {
		dumps, err := f.dumps(ctx, f.cluster.Admin, shop, shopPod)
		if err == nil && len(dumps) == 0 {
			err = errNoDump
		}
		return errors.Join(err, f.event(ctx, shop, shopPod, "CoreDumpCaptured"))
	})
	// Roles that others are aggregated to become so within moments of their making.
	await(t, func(ctx context.Context) error {
		view, err := f.client(t).RbacV1().ClusterRoles().Get(ctx, "view", metav1.GetOptions{})
		if err == nil && !strings.Contains(fmt.Sprint(view.Rules), "coredumps") {
			err = errors.New("the role view knows no dumps yet")
		}
		return err
	})
}
