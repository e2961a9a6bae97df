// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/cgroup"
)

const (
	uid1 = "87a18a64-b74a-454a-b10b-a4a36059d0a3"
	uid2 = "11111111-2222-3333-4444-555555555555"
	hash = "b1e89a2fcc688644de3eb95aee8025ce"
)

var (
	ctr1 = strings.Repeat("1a", 32)
	ctr2 = strings.Repeat("2b", 32)
	box  = strings.Repeat("3c", 32)
)

// fakeRuntime is a container runtime at a socket.
type fakeRuntime struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	endpoint string

	mu         sync.Mutex
	containers map[string]*runtimeapi.ContainerStatus
	sandboxes  map[string]*runtimeapi.PodSandboxStatus
	hangs      bool
}

func (f *fakeRuntime) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "containerd", RuntimeVersion: "v2", RuntimeApiVersion: "v1"}, nil
}

func (f *fakeRuntime) ContainerStatus(ctx context.Context, r *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	f.mu.Lock()
	hangs, c := f.hangs, f.containers[r.ContainerId]
	f.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if c == nil {
		return nil, status.Error(codes.NotFound, "no such container")
	}
	return &runtimeapi.ContainerStatusResponse{Status: c}, nil
}

func (f *fakeRuntime) PodSandboxStatus(_ context.Context, r *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.sandboxes[r.PodSandboxId]; s != nil {
		return &runtimeapi.PodSandboxStatusResponse{Status: s}, nil
	}
	return nil, status.Error(codes.NotFound, "no such sandbox")
}

func (f *fakeRuntime) add(id, namespace, pod, uid, container string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.containers[id] = &runtimeapi.ContainerStatus{
		Id: id, Metadata: &runtimeapi.ContainerMetadata{Name: "c"}, Image: &runtimeapi.ImageSpec{Image: "web:1"}, ImageRef: "web@sha256:1",
		CreatedAt: at(20).UnixNano(), LogPath: "/var/log/pods/" + namespace + "_" + pod + "_" + uid + "/" + container + "/0.log",
		Labels: map[string]string{labelPodNamespace: namespace, labelPodName: pod, labelPodUID: uid, labelContainerName: container},
	}
}

func newRuntime(t *testing.T) *fakeRuntime {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "cri.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeRuntime{endpoint: "unix://" + socket, containers: map[string]*runtimeapi.ContainerStatus{}, sandboxes: map[string]*runtimeapi.PodSandboxStatus{}}
	server := grpc.NewServer()
	runtimeapi.RegisterRuntimeServiceServer(server, f)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return f
}

func (f *fakeRuntime) client(t *testing.T) *CRI {
	t.Helper()
	c := NewCRI([]string{"unix:///nonexistent/cri.sock", f.endpoint})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	eventually(t, "the runtime answers", c.Connected)
	return c
}

// livePod is a pod as newPod makes it, with ids as a kubelet gives them.
func livePod(uid string, ids ...string) *corev1.Pod {
	p := newPod(uid, at(5))
	p.Annotations = map[string]string{AnnotationPrefix + "enabled": "true", "other": "x"}
	s := &p.Status.ContainerStatuses[0]
	s.State, s.LastTerminationState = corev1.ContainerState{}, corev1.ContainerState{}
	if len(ids) > 0 {
		s.ContainerID = "containerd://" + ids[0]
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: at(100)}
	}
	if len(ids) > 1 {
		s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ContainerID: "containerd://" + ids[1], StartedAt: at(10)}
	}
	return p
}

func teamNamespace() *corev1.Namespace {
	n := ns("ns-1", at(0))
	n.Labels = map[string]string{AnnotationPrefix + "capture": "disabled", "kubernetes.io/metadata.name": "team"}
	return n
}

func locate(t *testing.T, l *Locator, pod, container string) (Who, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return l.Locate(ctx, cgroup.ID{PodUID: pod, ContainerID: container}, at(150).Time)
}

func (c *cluster) locator(cri *CRI) *Locator {
	return &Locator{Place: Place{NodeName: "n1", ClusterName: "prod"}, Kubernetes: c.Kubernetes, CRI: cri}
}

// known checks all that both sources tell.
func known(t *testing.T, w Who, err error, sources ...Source) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if w.Namespace != "team" || w.Pod != "web-0" || w.PodUID != uid1 || w.Container != "app" || w.ContainerID != "containerd://"+ctr1 || w.Image != "web:1" || w.ImageID != "web@sha256:1" ||
		w.NodeName != "n1" || w.ClusterName != "prod" || !w.Verified || !slices.Equal(w.Sources, sources) {
		t.Errorf("%+v", w)
	}
	if slices.Contains(sources, FromAPI) && (w.Labels["app"] != "web" || w.Owner.Name != "web" || !maps.Equal(w.Annotations, map[string]string{AnnotationPrefix + "enabled": "true"})) {
		t.Errorf("%+v", w)
	}
}

func TestRuntimeAndAPITogetherKnowWhoItIs(t *testing.T) {
	f := newRuntime(t)
	f.add(ctr1, "team", "web-0", uid1, "app")
	c := newCluster(t, teamNamespace(), livePod(uid1, ctr1))
	w, err := locate(t, c.locator(f.client(t)), uid1, ctr1)
	known(t, w, err, FromRuntime, FromAPI)
	if w.NamespaceUID != "ns-1" || !maps.Equal(w.NamespaceLabels, map[string]string{AnnotationPrefix + "capture": "disabled"}) || !strings.HasSuffix(w.LogPath, "/0.log") {
		t.Errorf("%+v", w)
	}
}

func TestEitherSourceSuffices(t *testing.T) {
	f := newRuntime(t)
	f.add(ctr1, "team", "web-0", uid1, "app")
	t.Run("the runtime, without Kubernetes", func(t *testing.T) {
		w, err := locate(t, &Locator{Place: Place{NodeName: "n1", ClusterName: "prod"}, CRI: f.client(t)}, uid1, ctr1)
		known(t, w, err, FromRuntime)
	})
	t.Run("the runtime, of a pod that is gone and forgotten", func(t *testing.T) {
		c := newCluster(t, teamNamespace())
		w, err := locate(t, c.locator(f.client(t)), uid1, ctr1)
		known(t, w, err, FromRuntime)
		if w.NamespaceUID != "ns-1" {
			t.Errorf("%+v", w)
		}
	})
	t.Run("the API, without a runtime", func(t *testing.T) {
		for _, p := range []*corev1.Pod{livePod(uid1, ctr1), livePod(uid1, ctr2, ctr1)} {
			c := newCluster(t, teamNamespace(), p)
			for _, cri := range []*CRI{nil, NewCRI(nil), newRuntime(t).client(t)} {
				w, err := locate(t, c.locator(cri), uid1, ctr1)
				known(t, w, err, FromAPI)
			}
		}
	})
	t.Run("the API, while the runtime hangs", func(t *testing.T) {
		hung := newRuntime(t)
		cri := hung.client(t)
		hung.mu.Lock()
		hung.hangs = true
		hung.mu.Unlock()
		c := newCluster(t, teamNamespace(), livePod(uid1, ctr1))
		w, err := locate(t, c.locator(cri), uid1, ctr1)
		known(t, w, err, FromAPI)
	})
}

func TestASandboxIsKnown(t *testing.T) {
	f := newRuntime(t)
	f.sandboxes[box] = &runtimeapi.PodSandboxStatus{Id: box, CreatedAt: 1, Metadata: &runtimeapi.PodSandboxMetadata{Name: "web-0", Namespace: "team", Uid: uid1}}
	c := newCluster(t, teamNamespace(), livePod(uid1, ctr1))
	w, err := locate(t, c.locator(f.client(t)), uid1, box)
	if err != nil || w.Container != SandboxContainer || !w.Sandbox || w.Pod != "web-0" || w.PodUID != uid1 || w.Image != "" {
		t.Errorf("%+v, %v", w, err)
	}
}

func TestWhatNobodyKnowsIsToBeTriedAgain(t *testing.T) {
	c := newCluster(t, teamNamespace(), livePod(uid1))
	f := newRuntime(t)
	cri := f.client(t)
	for _, l := range []*Locator{c.locator(nil), c.locator(NewCRI(nil)), c.locator(cri), {CRI: cri}} {
		if w, err := locate(t, l, uid2, ctr2); !errors.Is(err, ErrNotYet) || w.Verified || w.Pod != "" {
			t.Errorf("%+v, %v", w, err)
		}
	}
	// Of a container that has just been made the status says nothing yet, but the pod is known.
	w, err := locate(t, c.locator(cri), uid1, ctr1)
	if !errors.Is(err, ErrNotYet) || !w.Verified || w.Pod != "web-0" || w.Container != "" || w.Annotations == nil {
		t.Errorf("%+v, %v", w, err)
	}
	f.add(ctr1, "team", "web-0", uid1, "app")
	if w, err = locate(t, c.locator(cri), uid1, ctr1); err != nil || w.Container != "app" {
		t.Errorf("%+v, %v", w, err)
	}
}

func TestWithoutTheNamespaceItIsTriedAgain(t *testing.T) {
	f := newRuntime(t)
	f.add(ctr1, "team", "web-0", uid1, "app")
	c := newCluster(t, teamNamespace())
	c.PrependReactor("get", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, errors.New("refused") })
	w, err := locate(t, c.locator(f.client(t)), uid1, ctr1)
	if !errors.Is(err, ErrNotYet) || !w.Verified || w.Container != "app" || w.NamespaceUID != "" {
		t.Errorf("%+v, %v", w, err)
	}
}

// Once it was seen around a pod, a namespace is known as long as the pod is, also when the API server is away while the pod crashes.
func TestTheNamespaceOfAKnownPodNeedsNoAnswer(t *testing.T) {
	c := newCluster(t, teamNamespace(), livePod(uid1, ctr1))
	eventually(t, "its namespace is known", func() bool { p := c.memory.byUID(uid1); return p != nil && p.ns != nil })
	c.namespaces.Clear()
	c.PrependReactor("get", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, errors.New("refused") })
	if w, err := locate(t, c.locator(nil), uid1, ctr1); err != nil || w.NamespaceUID != "ns-1" {
		t.Errorf("%+v, %v", w, err)
	}
}

func TestANamespaceThatIsYoungerThanThePodIsNotThePods(t *testing.T) {
	c := newCluster(t, ns("ns-2", at(60)), livePod(uid1, ctr1))
	if w, err := locate(t, c.locator(nil), uid1, ctr1); err != nil || w.NamespaceUID != "" {
		t.Errorf("%+v, %v", w, err)
	}
	// Without the pod the time of the crash decides.
	f := newRuntime(t)
	f.add(ctr1, "team", "web-0", uid1, "app")
	young := newCluster(t, ns("ns-3", at(160)))
	if w, err := locate(t, young.locator(f.client(t)), uid1, ctr1); err != nil || w.NamespaceUID != "" {
		t.Errorf("%+v, %v", w, err)
	}
}

// Its owner deleted the namespace, with force, and somebody else made one of that name before the node had noticed.
func TestANamespaceThatIsYoungerThanTheContainerIsNotTheContainers(t *testing.T) {
	f := newRuntime(t)
	f.add(ctr1, "team", "web-0", uid1, "app") // at 20
	c := newCluster(t, ns("ns-2", at(60)))    // it crashed at 150
	if w, err := locate(t, c.locator(f.client(t)), uid1, ctr1); err != nil || !w.Verified || w.NamespaceUID != "" {
		t.Errorf("%+v, %v", w, err)
	}
}

// The runtime's labels, the kernel's cgroup and the API must agree.
func TestP2_WhatContradictsItselfIsNobodys(t *testing.T) {
	for what, forge := range map[string]func(*fakeRuntime){
		"another pod's UID":     func(f *fakeRuntime) { f.add(ctr1, "team", "web-0", uid2, "app") },
		"another namespace":     func(f *fakeRuntime) { f.add(ctr1, "victim", "web-0", uid1, "app") },
		"another pod's name":    func(f *fakeRuntime) { f.add(ctr1, "team", "web-1", uid1, "app") },
		"another container":     func(f *fakeRuntime) { f.add(ctr1, "team", "web-0", uid1, "init") },
		"what cannot be a name": func(f *fakeRuntime) { f.add(ctr1, "../victim", "web-0", uid1, "app") },
		"no names":              func(f *fakeRuntime) { f.add(ctr1, "", "", "", "") },
	} {
		f := newRuntime(t)
		forge(f)
		c := newCluster(t, teamNamespace(), livePod(uid1, ctr1))
		w, err := locate(t, c.locator(f.client(t)), uid1, ctr1)
		if !errors.Is(err, ErrContradiction) || w.Verified || w.Namespace != "" {
			t.Errorf("%s: %+v, %v", what, w, err)
		}
	}
}

// mirror is what the API has of a static pod, or what somebody claims to be that.
func mirror(namespace, name, uid string, ids ...string) *corev1.Pod {
	p := livePod(uid, ids...)
	p.Namespace, p.Name = namespace, name
	p.Annotations[annotationMirror] = hash
	return p
}

func TestK4_AStaticPodIsFoundByItsMirror(t *testing.T) {
	f := newRuntime(t)
	f.add(ctr1, "team", "web-0", hash, "app")
	cri := f.client(t)
	for _, p := range []*corev1.Pod{mirror("team", "web-0", uid1), mirror("team", "web-0", uid1, ctr1)} {
		c := newCluster(t, teamNamespace(), p)
		w, err := locate(t, c.locator(cri), hash, ctr1)
		if err != nil || w.PodUID != uid1 || w.Pod != "web-0" || w.Labels["app"] != "web" {
			t.Errorf("%+v, %v", w, err)
		}
	}
	c := newCluster(t, teamNamespace(), mirror("team", "web-0", uid1, ctr1))
	if w, err := locate(t, c.locator(nil), hash, ctr1); err != nil || w.PodUID != uid1 || w.Container != "app" {
		t.Errorf("without the runtime: %+v, %v", w, err)
	}
	// A kubelet that has no API server makes no mirror.
	if w, err := locate(t, newCluster(t, teamNamespace()).locator(cri), hash, ctr1); err != nil || w.PodUID != hash {
		t.Errorf("without a mirror: %+v, %v", w, err)
	}
}

// Whoever may make pods can give one the annotation of a static pod, and bind it to the node.
func TestK4_APodThatClaimsToBeAMirrorGetsNothing(t *testing.T) {
	f := newRuntime(t)
	f.add(ctr1, "kube-system", "kube-apiserver-n1", hash, "app")
	c := newCluster(t, teamNamespace(), mirror("team", "web-0", uid1))
	if w, err := locate(t, c.locator(nil), hash, ctr1); !errors.Is(err, ErrNotYet) || w.Pod != "" {
		t.Errorf("without the runtime: %+v, %v", w, err)
	}
	w, err := locate(t, c.locator(f.client(t)), hash, ctr1)
	if err != nil || w.Namespace != "kube-system" || w.Pod != "kube-apiserver-n1" || w.PodUID != hash || w.Labels != nil {
		t.Errorf("%+v, %v", w, err)
	}
}

func TestAPodThatTheWatchDoesNotKnowYetIsFetched(t *testing.T) {
	f := newRuntime(t)
	f.add(ctr1, "team", "web-0", uid1, "app")
	cri := f.client(t)
	for _, test := range []struct {
		node, uid string
		sources   []Source
	}{{"n1", uid1, []Source{FromRuntime, FromAPI}}, {"n1", uid2, []Source{FromRuntime}}, {"n2", uid1, []Source{FromRuntime}}} {
		c := newCluster(t, teamNamespace())
		p := livePod(test.uid)
		p.Spec.NodeName = test.node
		c.PrependReactor("get", "pods", func(clienttesting.Action) (bool, runtime.Object, error) { return true, p, nil })
		w, err := locate(t, c.locator(cri), uid1, ctr1)
		known(t, w, err, test.sources...)
	}
	c := newCluster(t, teamNamespace())
	c.PrependReactor("get", "pods", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, errors.New("refused") })
	if w, err := locate(t, c.locator(cri), uid1, ctr1); !errors.Is(err, ErrNotYet) || !w.Verified || w.Container != "app" {
		t.Errorf("%+v, %v", w, err)
	}
}

func TestADeletedPodIsLocated(t *testing.T) {
	c := newCluster(t, teamNamespace(), livePod(uid1, ctr1))
	eventually(t, "its namespace is known", func() bool { p := c.memory.byUID(uid1); return p != nil && p.ns != nil })
	if err := c.CoreV1().Pods("team").Delete(t.Context(), "web-0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.CoreV1().Namespaces().Delete(t.Context(), "team", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.namespaces.Clear()
	eventually(t, "its deletion is known", func() bool { return !c.memory.byUID(uid1).deleted.IsZero() })
	w, err := locate(t, c.locator(nil), uid1, ctr1)
	known(t, w, err, FromAPI)
	if w.NamespaceUID != "ns-1" {
		t.Errorf("%+v", w)
	}
}

func TestARuntimeThatComesBackIsFoundAgain(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "cri.sock")
	serve := func() *grpc.Server {
		listener, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		f := &fakeRuntime{containers: map[string]*runtimeapi.ContainerStatus{}}
		f.add(ctr1, "team", "web-0", uid1, "app")
		server := grpc.NewServer()
		runtimeapi.RegisterRuntimeServiceServer(server, f)
		go func() { _ = server.Serve(listener) }()
		return server
	}
	server := serve()
	cri := (&fakeRuntime{endpoint: "unix://" + socket}).client(t)
	if _, err := cri.Status(t.Context(), ctr1); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	eventually(t, "it is away", func() bool {
		_, err := cri.Status(t.Context(), ctr1)
		return err != nil && !errors.Is(err, ErrNoContainer)
	})
	t.Cleanup(serve().Stop)
	eventually(t, "it is back", func() bool { _, err := cri.Status(t.Context(), ctr1); return err == nil })
}

func TestARecordIsFilled(t *testing.T) {
	w := Who{
		Namespace: "team", NamespaceUID: "ns-1", Pod: "web-0", PodUID: uid1, Container: "app", ContainerID: "containerd://" + ctr1, Image: "web:1", ImageID: "web@sha256:1",
		Labels: map[string]string{"app": "web"}, Owner: &v1alpha1.OwnerReference{Kind: "StatefulSet", Name: "web"}, NodeName: "n1", ClusterName: "prod", Verified: true,
	}
	var d v1alpha1.CoreDump
	w.Fill(&d)
	want := v1alpha1.CoreDumpSpec{
		PodName: "web-0", PodUID: uid1, NamespaceUID: "ns-1", ContainerName: "app", ContainerID: "containerd://" + ctr1, Image: "web:1", ImageID: "web@sha256:1",
		NodeName: "n1", ClusterName: "prod", Owner: d.Spec.Owner, Capture: v1alpha1.Capture{Identity: v1alpha1.IdentityVerified},
	}
	if d.Namespace != "team" || d.Spec != want || *d.Spec.Owner != *w.Owner || !maps.Equal(d.Labels, w.Labels) {
		t.Errorf("%+v", d)
	}
	w.Verified = false
	if w.Fill(&d); d.Spec.Capture.Identity != v1alpha1.IdentityClaimed {
		t.Errorf("%+v", d.Spec.Capture)
	}
}

// A crashed process waits for the answer.
func TestTheAnswerIsBoundedByTheContext(t *testing.T) {
	f := newRuntime(t)
	cri := f.client(t)
	f.mu.Lock()
	f.hangs = true
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	l := newCluster(t).locator(cri)
	if w, err := l.Locate(ctx, cgroup.ID{PodUID: uid1, ContainerID: ctr1}, at(1).Time); !errors.Is(err, ErrNotYet) || w.Verified {
		t.Errorf("%+v, %v", w, err)
	}
}
