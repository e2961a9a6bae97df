// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/test/cluster"
)

const api = "/apis/coredump.example.io/v1alpha1"

// container is the name of the container of every pod that crashes.
const container = "app"

// crashing is a pod whose one container runs a command of crashImage, once.
func crashing(namespace, name string, command ...string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers:    []corev1.Container{{Name: container, Image: crashImage, ImagePullPolicy: corev1.PullNever, Command: command}},
			// No test needs a pod longer than the kubelet takes to see that it ended.
			TerminationGracePeriodSeconds: new(int64(30)),
		},
	}
}

// distroless takes everything from the pod that can be taken from it.
func distroless(pod *corev1.Pod) *corev1.Pod {
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), RunAsGroup: new(int64(65532)),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	return pod
}

func (f *fixture) client(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	client, err := f.cluster.Client(f.cluster.Admin)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// create makes the pod, with what the mode wants of pods, and gives it with its UID.
func (f *fixture) create(t *testing.T, m mode, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	if m.pod != nil {
		m.pod(pod)
	}
	created, err := f.client(t).CoreV1().Pods(pod.Namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return created
}

// awaitPod waits until the pod is as wanted.
func (f *fixture) awaitPod(t *testing.T, namespace, name string, wanted func(*corev1.Pod) bool) {
	t.Helper()
	client := f.client(t)
	await(t, func(ctx context.Context) error {
		pod, err := client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil && !wanted(pod) {
			status, _ := json.Marshal(pod.Status)
			err = fmt.Errorf("%s/%s: %s", namespace, name, status)
		}
		return err
	})
}

func running(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodRunning }

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
}

// await asks check until it gives nil, for as long as patience lasts.
func await(t *testing.T, check func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := cluster.Poll(ctx, check); err != nil {
		t.Fatalf("%v\n%s", err, shared.handlerLog())
	}
}

// handlerLog is the end of the log of the node handler.
func (f *fixture) handlerLog() string {
	out, err := f.cluster.Kubectl(context.Background(), f.cluster.Admin, "logs", "-n", cluster.SystemNamespace, "daemonset/coredump-nodehandler", "--tail=40")
	if err != nil {
		return err.Error()
	}
	return string(out)
}

// dumps are those of a pod that the API lists, the oldest first.
func (f *fixture) dumps(ctx context.Context, config, namespace, pod string) ([]v1alpha1.CoreDump, error) {
	client, err := f.cluster.Client(config)
	if err != nil {
		return nil, err
	}
	out, err := client.Discovery().RESTClient().Get().AbsPath(api, "namespaces", namespace, "coredumps").DoRaw(ctx)
	var list v1alpha1.CoreDumpList
	if err == nil {
		err = json.Unmarshal(out, &list)
	}
	var found []v1alpha1.CoreDump
	for _, d := range list.Items {
		if d.Spec.PodName == pod {
			found = append(found, d)
		}
	}
	return found, err
}

var errNoDump = errors.New("no dump yet")

// awaitDump waits until the pod has a dump, and checks what all have in common.
func (f *fixture) awaitDump(t *testing.T, m mode, config string, pod *corev1.Pod) v1alpha1.CoreDump {
	t.Helper()
	var dump v1alpha1.CoreDump
	await(t, func(ctx context.Context) error {
		dumps, err := f.dumps(ctx, config, pod.Namespace, pod.Name)
		if err == nil && len(dumps) == 0 {
			err = errNoDump
		}
		if err == nil {
			dump = dumps[0]
		}
		return err
	})
	f.check(t, m, pod, dump)
	return dump
}

// awaitDumps waits until the pod has so many dumps, gives them, and fails where it has more. Zero is for when all that could become one has been counted.
func (f *fixture) awaitDumps(t *testing.T, config string, pod *corev1.Pod, n int) (all []v1alpha1.CoreDump) {
	t.Helper()
	await(t, func(ctx context.Context) (err error) {
		if all, err = f.dumps(ctx, config, pod.Namespace, pod.Name); err == nil && len(all) < n {
			err = fmt.Errorf("%d dumps, want %d", len(all), n)
		}
		return err
	})
	if len(all) > n {
		t.Errorf("%d dumps of %s, want %d", len(all), pod.Name, n)
	}
	return all
}

// countEvents counts the Events of a pod whose reason begins so.
func (f *fixture) countEvents(t *testing.T, pod *corev1.Pod, reason string) (n int) {
	t.Helper()
	events, err := f.client(t).EventsV1().Events(pod.Namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events.Items {
		if e.Regarding.UID == pod.UID && strings.HasPrefix(e.Reason, reason) {
			n++
		}
	}
	return n
}

// check: the record names the pod that crashed, and is as sure of it as the mode can be.
func (f *fixture) check(t *testing.T, m mode, pod *corev1.Pod, d v1alpha1.CoreDump) {
	t.Helper()
	if d.Namespace != pod.Namespace || d.Spec.PodName != pod.Name || d.Spec.ContainerName != container || d.Spec.PodUID != string(pod.UID) ||
		d.Spec.Image != crashImage || d.Spec.NodeName != cluster.NodeName || d.Spec.ClusterName != "test" {
		t.Errorf("the record is not of %s/%s (%s): %+v", pod.Namespace, pod.Name, pod.UID, d.Spec)
	}
	if d.Spec.Capture.Mode != m.mode || d.Spec.Capture.Identity != m.identity {
		t.Errorf("captured %+v, want mode %s, identity %s", d.Spec.Capture, m.mode, m.identity)
	}
}
