// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"example.io/coredump/test/cluster"
)

// lossless is what a mode that takes dumps from the kernel does not lose.
func lossless(t *testing.T, m mode) {
	f := &shared
	ns := f.namespace(t, string(m.mode)+"-loss")
	user := f.user(t, ns)

	t.Run("a crash while the store is away", func(t *testing.T) {
		back := f.storeAway(t)
		pod := f.create(t, m, crashing(ns, "store-away", "/crash", "-m", "16"))
		f.awaitPod(t, ns, "store-away", ended)
		back()
		isOfCrash(t, f.download(t, user, f.awaitDump(t, m, user, pod)), 16, 1)
	})
	t.Run("a finished dump, when the node handler is killed before it is uploaded", func(t *testing.T) {
		back := f.storeAway(t)
		pod := f.create(t, m, crashing(ns, "killed", "/crash", "-m", "16"))
		f.awaitPod(t, ns, "killed", ended)
		f.killNodeHandler(t)
		back()
		isOfCrash(t, f.download(t, user, f.awaitDump(t, m, user, pod)), 16, 1)
	})
	t.Run("the node handler keeps to its memory", func(t *testing.T) {
		// As many as it uploads at a time.
		large := f.create(t, m, crashing(ns, "large", "/crash", "-m", "512"))
		other := f.create(t, m, crashing(ns, "large-too", "/crash", "-m", "512"))
		f.download(t, user, f.awaitDump(t, m, user, large))
		f.awaitDump(t, m, user, other)
		pods, err := f.client(t).CoreV1().Pods(cluster.SystemNamespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=coredump-nodehandler"})
		if err != nil || len(pods.Items) != 1 {
			t.Fatalf("%d pods (%v)", len(pods.Items), err)
		}
		for _, s := range pods.Items[0].Status.ContainerStatuses {
			if end := s.LastTerminationState.Terminated; end != nil && end.Reason == "OOMKilled" {
				t.Errorf("%s: %+v", s.Name, end)
			}
		}
		for _, pid := range nodeHandlers() {
			keepsToMemory(t, pid)
		}
	})
}

// storeAway ends the store, and gives a function that brings it back, which the end of the test calls where nobody else has.
func (f *fixture) storeAway(t *testing.T) (back func()) {
	t.Helper()
	f.store.Kill()
	back = sync.OnceFunc(func() {
		if err := f.store.Start(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(back)
	return back
}

// withoutNodeHandler: where a program on the host takes the dump, one node handler's absence costs nothing.
func withoutNodeHandler(t *testing.T, m mode) {
	f := &shared
	ns := f.namespace(t, string(m.mode)+"-down")
	user := f.user(t, ns)
	back := f.withoutHandler(t)
	pod := f.create(t, m, crashing(ns, "down", "/crash", "-m", "8", "-t", "4"))
	f.awaitPod(t, ns, "down", ended)
	back()
	isOfCrash(t, f.download(t, user, f.awaitDump(t, m, user, pod)), 8, 4)
}

// withoutHandler keeps the node handler from the node, and gives a function that brings it back, which the end of the test calls where nobody else has.
func (f *fixture) withoutHandler(t *testing.T) (back func()) {
	t.Helper()
	sets := f.client(t).AppsV1().DaemonSets(cluster.SystemNamespace)
	ctx := context.WithoutCancel(t.Context())
	patch := func(value string) error {
		_, err := sets.Patch(ctx, "coredump-nodehandler", types.StrategicMergePatchType,
			[]byte(`{"spec":{"template":{"spec":{"nodeSelector":{"coredump-test":`+value+`}}}}}`), metav1.PatchOptions{})
		return err
	}
	if err := patch(`"nowhere"`); err != nil {
		t.Fatal(err)
	}
	back = sync.OnceFunc(func() {
		if err := patch("null"); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(back)
	await(t, func(context.Context) error {
		if pids := nodeHandlers(); len(pids) > 0 {
			return fmt.Errorf("still there: %v", pids)
		}
		return nil
	})
	return back
}

// awaitReady waits until the node handler is ready.
func (f *fixture) awaitReady(t *testing.T) {
	t.Helper()
	await(t, func(ctx context.Context) error {
		pod, err := f.handlerPod(ctx)
		if err == nil && !slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		}) {
			err = errors.New("the node handler is not ready")
		}
		return err
	})
}

// nodeHandlers are the process ids of the programs called nodehandler in pods.
func nodeHandlers() (pids []int) {
	processes, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, comm := range processes {
		name, _ := os.ReadFile(comm)
		group, _ := os.ReadFile(filepath.Join(filepath.Dir(comm), "cgroup"))
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(comm))); err == nil && string(name) == "nodehandler\n" && bytes.Contains(group, []byte("/kubepods/")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killNodeHandler ends the node handler with SIGKILL, and waits until the kubelet has started it again.
func (f *fixture) killNodeHandler(t *testing.T) {
	t.Helper()
	before := nodeHandlers()
	if len(before) != 1 {
		t.Fatalf("node handlers: %v", before)
	}
	if err := syscall.Kill(before[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, func(context.Context) error {
		if now := nodeHandlers(); len(now) == 1 && now[0] != before[0] {
			return nil
		}
		return errors.New("no new node handler yet")
	})
}
