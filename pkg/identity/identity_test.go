// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	clienttesting "k8s.io/client-go/testing"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

const patience = 30 * time.Second

// epoch is when everything in the tests begins.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(seconds int) metav1.Time {
	return metav1.NewTime(epoch.Add(time.Duration(seconds) * time.Second))
}

// cluster is a fake API server, with an identifier that follows it.
type cluster struct {
	*fake.Clientset
	*Kubernetes
}

// noWatchList tells the informer that the fake does not stream lists.
type noWatchList struct{ corev1client.CoreV1Interface }

func (noWatchList) IsWatchListSemanticsUnSupported() bool { return true }

func newCluster(t *testing.T, objects ...runtime.Object) *cluster {
	t.Helper()
	c := &cluster{Clientset: fake.NewSimpleClientset(objects...)}
	c.Kubernetes = NewKubernetes(noWatchList{c.CoreV1()}, Place{NodeName: "n1", ClusterName: "prod"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	eventually(t, "the pods are known", c.Synced)
	return c
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come to this: %s", what)
		}
	}
}

func ns(uid string, created metav1.Time) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team", UID: types.UID(uid), CreationTimestamp: created}}
}

func newPod(uid string, created metav1.Time) *corev1.Pod {
	yes := true
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "team", Name: "web-0", UID: types.UID(uid), CreationTimestamp: created, Labels: map[string]string{"app": "web"},
			OwnerReferences: []metav1.OwnerReference{{Name: "other"}, {APIVersion: "apps/v1", Kind: "StatefulSet", Name: "web", UID: "owner", Controller: &yes}},
		},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "app", Image: "web:1"}}, InitContainers: []corev1.Container{{Name: "init", Image: "init:1"}}},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			Name: "app", ImageID: "web@sha256:1", ContainerID: "containerd://second",
			State:                corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(100)}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: "containerd://first", StartedAt: at(10)}},
		}}},
	}
}

// crash is a record as it comes from the node, of a crash at the time.
func crash(t metav1.Time) *v1alpha1.CoreDump {
	d := &v1alpha1.CoreDump{ObjectMeta: metav1.ObjectMeta{Namespace: "team"}}
	d.Spec.PodName, d.Spec.ContainerName, d.Spec.Process.Time = "web-0", "app", t
	return d
}

func (c *cluster) identify(t *testing.T, when metav1.Time) v1alpha1.CoreDump {
	t.Helper()
	d := crash(when)
	if err := c.Identify(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	return *d
}

func TestALivingPodIsIdentified(t *testing.T) {
	c := newCluster(t, ns("ns-1", at(0)), newPod("pod-1", at(5)))
	d := c.identify(t, at(50))
	s := d.Spec
	if s.NamespaceUID != "ns-1" || s.PodUID != "pod-1" || s.ContainerID != "containerd://first" || s.Image != "web:1" || s.ImageID != "web@sha256:1" ||
		s.NodeName != "n1" || s.ClusterName != "prod" || *s.Owner != (v1alpha1.OwnerReference{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "web", UID: "owner"}) ||
		!maps.Equal(d.Labels, map[string]string{"app": "web"}) {
		t.Errorf("%+v, labels %v", s, d.Labels)
	}
	if id := c.identify(t, at(150)).Spec.ContainerID; id != "containerd://second" {
		t.Errorf("after the restart the container is %q", id)
	}
}

func TestADeletedPodIsRemembered(t *testing.T) {
	c := newCluster(t, ns("ns-1", at(0)), newPod("pod-1", at(5)))
	pods := c.CoreV1().Pods("team")
	if err := pods.Delete(t.Context(), "web-0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its deletion is known", func() bool { c.memory.mu.Lock(); defer c.memory.mu.Unlock(); return len(c.memory.gone) == 1 })
	if uid := c.identify(t, at(50)).Spec.PodUID; uid != "pod-1" {
		t.Errorf("pod UID %q", uid)
	}
	// The name is used again.
	if _, err := pods.Create(t.Context(), newPod("pod-2", at(60)), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second one is known", func() bool { return c.identify(t, at(70)).Spec.PodUID == "pod-2" })
	if uid := c.identify(t, at(50)).Spec.PodUID; uid != "pod-1" {
		t.Errorf("the crash before the second pod has pod UID %q", uid)
	}
	if uid := c.identify(t, at(1)).Spec.PodUID; uid != "" {
		t.Errorf("the crash before the first pod has pod UID %q", uid)
	}
}

func TestADumpThatIsOlderThanTheNamespaceGetsNoUID(t *testing.T) {
	c := newCluster(t, ns("ns-2", at(100)), newPod("pod-2", at(110)))
	if d := c.identify(t, at(99)); d.Spec.NamespaceUID != "" || d.Spec.PodUID != "" || d.Labels != nil {
		t.Errorf("before: %+v", d.Spec)
	}
	if d := c.identify(t, at(120)); d.Spec.NamespaceUID != "ns-2" || d.Spec.PodUID != "pod-2" {
		t.Errorf("after: %+v", d.Spec)
	}
}

func TestThatThereIsNoneIsAnAnswer(t *testing.T) {
	c := newCluster(t)
	if s := c.identify(t, at(50)).Spec; s.NamespaceUID != "" || s.PodUID != "" || s.NodeName != "n1" {
		t.Errorf("%+v", s)
	}
}

func TestAContainerThatThePodHasNotKeepsThePod(t *testing.T) {
	c := newCluster(t, ns("ns-1", at(0)), newPod("pod-1", at(5)))
	d := crash(at(50))
	d.Spec.ContainerName = "other"
	if err := c.Identify(t.Context(), d); err != nil || d.Spec.PodUID != "pod-1" || d.Spec.ContainerID != "" || d.Spec.Image != "" {
		t.Errorf("%+v, %v", d.Spec, err)
	}
}

func TestNoAnswerIsAFailure(t *testing.T) {
	for resource, err := range map[string]error{
		"namespaces": errors.New("connection refused"),
		"pods":       apierrors.NewForbidden(corev1.Resource("pods"), "web-0", errors.New("no role")),
	} {
		c := newCluster(t, ns("ns-1", at(0)))
		c.PrependReactor("get", resource, func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, err })
		if got := c.Identify(t.Context(), crash(at(50))); !errors.Is(got, err) {
			t.Errorf("%s: %v", resource, got)
		}
	}
}

func TestAPodThatTheWatchDoesNotKnowYetIsAskedFor(t *testing.T) {
	for node, want := range map[string]string{"n1": "pod-1", "n2": ""} {
		c := newCluster(t, ns("ns-1", at(0)))
		p := newPod("pod-1", at(5))
		p.Spec.NodeName = node
		c.PrependReactor("get", "pods", func(clienttesting.Action) (bool, runtime.Object, error) { return true, p, nil })
		if uid := c.identify(t, at(50)).Spec.PodUID; uid != want {
			t.Errorf("on %s: pod UID %q, want %q", node, uid, want)
		}
	}
}

func TestANamespaceIsNotAskedForEveryTime(t *testing.T) {
	c := newCluster(t, ns("ns-1", at(0)), newPod("pod-1", at(5)))
	for range 10 {
		c.identify(t, at(50))
	}
	n := 0
	for _, a := range c.Actions() {
		if a.Matches("get", "namespaces") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestTheMemoryIsBounded(t *testing.T) {
	m := newMemory()
	for i := range remembered + 500 {
		name := fmt.Sprintf("team/pod-%d", i)
		m.put(name, &pod{uid: "u", created: epoch})
		m.remove(name, "u", epoch)
	}
	if len(m.gone) != remembered || len(m.pods) != remembered {
		t.Errorf("%d deleted pods, %d names", len(m.gone), len(m.pods))
	}
	m.put("team/last", &pod{uid: "u", created: epoch})
	m.remove("team/last", "u", epoch.Add(rememberedFor+time.Second))
	if len(m.gone) != 1 || len(m.pods) != 1 {
		t.Errorf("a day later: %d deleted pods, %d names", len(m.gone), len(m.pods))
	}
}

func TestWithoutKubernetesThereIsThePlace(t *testing.T) {
	d := crash(at(0))
	if err := (Names{Place{NodeName: "n1", ClusterName: "prod"}}).Identify(t.Context(), d); err != nil || d.Spec.NodeName != "n1" || d.Spec.ClusterName != "prod" {
		t.Errorf("%+v, %v", d.Spec, err)
	}
}
