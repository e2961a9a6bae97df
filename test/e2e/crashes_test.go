// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// everyCrash is what holds in every mode: whatever crashes, however the pod is restricted, ends as the record of the right pod with the right bytes.
func everyCrash(t *testing.T, m mode) {
	f := &shared
	ns := f.namespace(t, string(m.mode)+"-crashes")
	user := f.user(t, ns)

	t.Run("a program in C with 14 threads", func(t *testing.T) {
		pod := f.create(t, m, crashing(ns, "threads", "/crash", "-t", "14", "-m", "8"))
		d := f.awaitDump(t, m, user, pod)
		isProcess(t, d, "crash", "SIGSEGV")
		isOfCrash(t, f.download(t, user, d), 8, 14)
	})
	t.Run("a program in Go", func(t *testing.T) {
		pod := crashing(ns, "go", "/gocrash")
		pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "GOTRACEBACK", Value: "crash"}}
		// The runtime sends itself SIGABRT, which the kernel ignores from the first process of a PID namespace (pid_namespaces(7)): it would only exit.
		pod.Spec.ShareProcessNamespace = new(true)
		d := f.awaitDump(t, m, user, f.create(t, m, pod))
		isProcess(t, d, "gocrash", "SIGABRT")
		if out := gdb(t, program("gocrash"), f.download(t, user, d), "thread apply all bt"); !strings.Contains(out, "main.checkout") {
			t.Errorf("no main.checkout in:\n%s", out)
		}
	})
	t.Run("a pod that may nothing", func(t *testing.T) {
		d := f.awaitDump(t, m, user, f.create(t, m, distroless(crashing(ns, "distroless", "/crash"))))
		isOfCrash(t, f.download(t, user, d), 1, 1)
	})
	t.Run("a pod in the network of the host", func(t *testing.T) {
		pod := crashing(ns, "host-network", "/crash")
		pod.Spec.HostNetwork = true
		d := f.awaitDump(t, m, user, f.create(t, m, pod))
		isOfCrash(t, f.download(t, user, d), 1, 1)
	})
	t.Run("two pods of one name in two namespaces", func(t *testing.T) {
		other := f.namespace(t, string(m.mode)+"-others")
		users := map[string]string{ns: user, other: f.user(t, other)}
		pods := map[string]*corev1.Pod{}
		sizes := map[string]int{ns: 2, other: 3}
		for namespace, mib := range sizes {
			pods[namespace] = f.create(t, m, crashing(namespace, "twin", "/crash", "-m", fmt.Sprint(mib)))
		}
		for namespace, mib := range sizes {
			d := f.awaitDump(t, m, users[namespace], pods[namespace])
			isOfCrash(t, f.download(t, users[namespace], d), mib, 1)
		}
		if _, err := f.dumps(t.Context(), user, other, "twin"); err == nil {
			t.Error("the user of one namespace sees the dumps of the other")
		}
	})
	t.Run("a pod whose owner deletes it, and that crashes of it", func(t *testing.T) {
		pod := f.create(t, m, crashing(ns, "deleted", "/crash", "-w", "-m", "64"))
		f.awaitPod(t, ns, "deleted", running)
		f.admin(t, "delete", "pod", "-n", ns, "deleted", "--wait=false")
		d := f.awaitDump(t, m, user, pod)
		isOfCrash(t, f.download(t, user, d), 64, 1)
	})
	t.Run("each crash of a loop", func(t *testing.T) {
		pod := crashing(ns, "loop", "/crash", "-s", "1")
		pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
		pod = f.create(t, m, pod)
		var dumps []v1alpha1.CoreDump
		await(t, func(ctx context.Context) (err error) {
			if dumps, err = f.dumps(ctx, user, ns, "loop"); err == nil && len(dumps) < 3 {
				err = fmt.Errorf("%d dumps, want 3", len(dumps))
			}
			return err
		})
		f.admin(t, "delete", "pod", "-n", ns, "loop", "--wait=false")
		containers := map[string]bool{}
		for _, d := range dumps {
			f.check(t, m, pod, d)
			containers[d.Spec.ContainerID] = true
		}
		if m.identity == v1alpha1.IdentityVerified && len(containers) != len(dumps) {
			t.Errorf("%d dumps of %d containers", len(dumps), len(containers))
		}
	})
	t.Run("a process in namespaces that it made itself", func(t *testing.T) {
		pod := f.create(t, m, crashing(ns, "nested", "/crash", "-n", "-m", "2"))
		d := f.awaitDump(t, m, user, pod)
		isOfCrash(t, f.download(t, user, d), 2, 1)
	})
}

// isProcess checks what the record says of the process.
func isProcess(t *testing.T, d v1alpha1.CoreDump, executable, signal string) {
	t.Helper()
	if p := d.Spec.Process; filepath.Base(p.Executable) != executable || p.SignalName != signal || p.PID == 0 {
		t.Errorf("process %+v, want %s and %s", p, executable, signal)
	}
}

// withoutHelpOfPods is what holds where pods need not be changed to get their dumps.
func withoutHelpOfPods(t *testing.T, m mode) {
	f := &shared
	ns := f.namespace(t, string(m.mode)+"-all")
	user := f.user(t, ns)

	t.Run("the record says what crashed, and how", func(t *testing.T) {
		pod := f.create(t, m, crashing(ns, "summary", "/crash", "-t", "14"))
		d := f.awaitDump(t, m, user, pod)
		s := d.Status.Summary
		if s == nil || s.Threads != 14 || !strings.Contains(s.Text, "SIGSEGV") || !strings.Contains(s.Text, "/crash") || len(s.Frames) == 0 || s.Signature == "" {
			t.Errorf("summary %+v", s)
		}
		if d.Spec.ContainerID == "" || d.Spec.ImageID == "" || d.Spec.Process.HostPID == 0 {
			t.Errorf("the record does not say all that the runtime knows: %+v", d.Spec)
		}
		await(t, func(ctx context.Context) error { return f.event(ctx, ns, "summary", "CoreDumpCaptured") })
	})
	t.Run("a pod that wants no dumps has none", func(t *testing.T) {
		pod := crashing(ns, "opted-out", "/crash")
		pod.Annotations = map[string]string{"coredump.example.io/capture": "disabled"}
		f.create(t, m, pod)
		f.awaitPod(t, ns, "opted-out", ended)
		// Crashes are taken in turn: when one that came later is there, this one would be.
		f.awaitDump(t, m, user, f.create(t, m, crashing(ns, "after", "/crash")))
		if dumps, err := f.dumps(t.Context(), user, ns, "opted-out"); err != nil || len(dumps) != 0 {
			t.Errorf("%d dumps (%v), want none", len(dumps), err)
		}
	})
	t.Run("a process of the host goes to the handler that the host had", func(t *testing.T) {
		before := f.admin(t, "get", "coredumps", "-A", "-o", "name")
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "ulimit -c unlimited; exec "+program("crash")+" -m 4")
		cmd.Dir = t.TempDir()
		_ = cmd.Run()
		status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !status.Signaled() || status.Signal() != syscall.SIGSEGV {
			t.Fatalf("ended with %v", cmd.ProcessState)
		}
		want := filepath.Join(hostCores, fmt.Sprintf("host-crash-%d-%d", syscall.SIGSEGV, cmd.Process.Pid))
		await(t, func(context.Context) error {
			_, err := os.Stat(want)
			return err
		})
		isOfCrash(t, core{path: want}, 4, 1)
		f.awaitDump(t, m, user, f.create(t, m, crashing(ns, "after-host", "/crash")))
		if after := f.admin(t, "get", "coredumps", "-A", "-o", "name"); strings.Count(after, "\n") != strings.Count(before, "\n")+1 {
			t.Errorf("the dump of a host process became a record:\n%s", after)
		}
	})
}

// event is nil where the pod has an Event of the reason.
func (f *fixture) event(ctx context.Context, namespace, pod, reason string) error {
	client, err := f.cluster.Client(f.cluster.Admin)
	if err != nil {
		return err
	}
	events, err := client.EventsV1().Events(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var all []string
	for _, e := range events.Items {
		if e.Regarding.Kind == "Pod" && e.Regarding.Name == pod {
			if e.Reason == reason {
				return nil
			}
			all = append(all, e.Reason)
		}
	}
	return fmt.Errorf("no Event %s of %s/%s: there are %q", reason, namespace, pod, all)
}
