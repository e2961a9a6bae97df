// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/test/cluster"
)

// A process whose cgroup names a container of one pod and the UID of another: kernel and runtime contradict each other.
func TestADumpThatNobodyCanVouchForIsKeptAndNoUserOfTheAPISeesIt(t *testing.T) {
	f := &shared
	f.enter(t, pipe)
	ns := f.namespace(t, "victim")
	user := f.user(t, ns)
	f.create(t, pipe, crashing(ns, "victim", "/reader", "/nothing"))
	var victim *corev1.Pod
	f.awaitPod(t, ns, "victim", func(pod *corev1.Pod) bool {
		victim = pod
		return running(pod)
	})
	_, id, _ := strings.Cut(victim.Status.ContainerStatuses[0].ContainerID, "://")
	before, counted := f.admin(t, "get", "coredumps", "-A", "-o", "name"), f.metrics(t)

	group, err := cluster.Cgroup("kubepods", "podaaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee", id)
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	t.Cleanup(func() {
		for _, d := range []string{group.Name(), filepath.Dir(group.Name())} {
			_ = os.Remove(d)
		}
	})
	cmd := exec.CommandContext(t.Context(), program("crash"), "-m", "3")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGSEGV {
		t.Fatalf("it ended with %v", err)
	}

	f.awaitCount(t, counted, `coredump_nodehandler_captured_total{namespace="_unknown"}`, 1)
	await(t, func(context.Context) error {
		var kept []string
		err := filepath.WalkDir(filepath.Join(f.store.Data(), "_unknown", cluster.NodeName), func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				kept = append(kept, path)
			}
			return err
		})
		if err == nil && len(kept) < 2 { // the record comes last
			err = fmt.Errorf("in the bucket: %v", kept)
		}
		return err
	})
	if after := f.admin(t, "get", "coredumps", "-A", "-o", "name"); after != before {
		t.Errorf("there are\n%swere\n%s", after, before)
	}
	if list := f.admin(t, "get", "--raw", api+"/namespaces/_unknown/coredumps"); !strings.Contains(list, `"items":[]`) {
		t.Errorf("the namespace _unknown has %s", list)
	}
	victim.ObjectMeta = metav1.ObjectMeta{Namespace: ns, Name: "victim"}
	f.awaitDumps(t, user, victim, 0)
	f.admin(t, "delete", "pod", "-n", ns, "victim", "--wait=false")
}
