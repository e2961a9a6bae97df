// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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

// uninstall: after the DaemonSet is gone, a pod like its own that runs "nodehandler uninstall" gives the host back as it was, also where the node handler was
// killed with SIGKILL before. It is the last of the tests of a mode: the next deployment finds a host that nobody has touched.
func uninstall(t *testing.T) {
	f := &shared
	client := f.client(t)
	f.killNodeHandler(t)
	set, err := client.AppsV1().DaemonSets(cluster.SystemNamespace).Get(t.Context(), "coredump-nodehandler", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f.admin(t, "delete", "daemonset", "-n", cluster.SystemNamespace, set.Name)
	await(t, func(context.Context) error {
		if pids := nodeHandlers(); len(pids) > 0 {
			return fmt.Errorf("still there: %v", pids)
		}
		return nil
	})
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.SystemNamespace, GenerateName: "uninstall-"}, Spec: *set.Spec.Template.Spec.DeepCopy()}
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	c := &pod.Spec.Containers[0]
	c.Args = []string{"uninstall", "--proc-sys=/host/proc/sys", "--purge", watched}
	c.StartupProbe, c.LivenessProbe, c.ReadinessProbe = nil, nil, nil
	pod, err = client.CoreV1().Pods(pod.Namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f.awaitPod(t, pod.Namespace, pod.Name, ended)
	said, _ := f.cluster.Kubectl(t.Context(), f.cluster.Admin, "logs", "-n", pod.Namespace, pod.Name)
	if got := hostSettings(); got != f.before {
		t.Errorf("the host has\n%s\nhad\n%s\nuninstall said %s", got, f.before, said)
	}
	for _, d := range []string{"/opt/coredump", watched} {
		if entries, err := os.ReadDir(d); err == nil && len(entries) > 0 {
			t.Errorf("left in %s: %v\nuninstall said %s", d, entries, said)
		}
	}
}
