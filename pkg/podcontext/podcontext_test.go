// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package podcontext

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"example.io/coredump/pkg/cgroup"
	"example.io/coredump/pkg/identity"
)

const secret = "correct horse battery staple"

func pod() *corev1.Pod {
	env := []corev1.EnvVar{{Name: "TOKEN", Value: secret}, {Name: "EMPTY"}, {Name: "REF", ValueFrom: &corev1.EnvVarSource{}}}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "team", Name: "web-0", UID: "u1",
			Annotations:   map[string]string{corev1.LastAppliedConfigAnnotation: secret, "mine": "kept"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
		},
		Spec: corev1.PodSpec{
			Containers:          []corev1.Container{{Name: "app", Image: "web:1", Env: env}},
			InitContainers:      []corev1.Container{{Name: "init", Env: slices.Clone(env)}},
			EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Env: slices.Clone(env)}}},
		},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "app", RestartCount: 7}}},
	}
}

var (
	who = identity.Who{Namespace: "team", Pod: "web-0", PodUID: "u1", Container: "app", Labels: map[string]string{"app": "web"}, Verified: true}
	cid = cgroup.ID{PodUID: "u1", ContainerID: strings.Repeat("1a", 32)}
)

type fakeRuntime struct {
	status *runtimeapi.ContainerStatus
	err    error
}

func (f fakeRuntime) Status(context.Context, string) (*runtimeapi.ContainerStatus, error) {
	return f.status, f.err
}

func gather(t *testing.T, g Gatherer, w identity.Who) (map[string]string, error) {
	t.Helper()
	files, err := g.Gather(t.Context(), cid, w)
	got := map[string]string{}
	name := regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)
	for _, f := range files {
		if !name.MatchString(f.Name) || got[f.Name] != "" {
			t.Errorf("a file named %q", f.Name)
		}
		got[f.Name] = string(f.Data)
		if strings.HasSuffix(f.Name, ".json") && !json.Valid(f.Data) {
			t.Errorf("%s: %s", f.Name, f.Data)
		}
	}
	return got, err
}

func TestPodContainerAndLogAreGathered(t *testing.T) {
	l, w := logs(t, map[string]string{"0.log": line(1, "hello")})
	got, err := gather(t, Gatherer{
		Pods: fake.NewSimpleClientset(pod()).CoreV1(), Logs: l,
		Runtime: fakeRuntime{status: &runtimeapi.ContainerStatus{Id: cid.ContainerID, ExitCode: 139}},
	}, w)
	if err != nil || !strings.Contains(got[PodFile], `"mine": "kept"`) || !strings.Contains(got[PodFile], `"kind": "Pod"`) ||
		!regexp.MustCompile(`"exitCode": +139`).MatchString(got[ContainerFile]) || !strings.HasSuffix(got[LogFile], "stdout hello\n") {
		t.Errorf("%v, %v", got, err)
	}
}

func TestP11_ValuesOfTheEnvironmentAreLeftOutUnlessAskedFor(t *testing.T) {
	client := fake.NewSimpleClientset(pod()).CoreV1()
	got, err := gather(t, Gatherer{Pods: client}, who)
	if err != nil || strings.Contains(got[PodFile], secret) || strings.Count(got[PodFile], "TOKEN") != 3 || strings.Count(got[PodFile], "REF") != 3 || strings.Contains(got[PodFile], "kubectl") {
		t.Errorf("%s, %v", got[PodFile], err)
	}
	got, _ = gather(t, Gatherer{Pods: client, EnvValues: true}, who)
	if strings.Count(got[PodFile], secret) != 3 || strings.Contains(got[PodFile], corev1.LastAppliedConfigAnnotation) {
		t.Errorf("%s", got[PodFile])
	}
}

// A pod that has the name now may be another one.
func TestOfAPodThatIsGoneThereIsWhatIsKnown(t *testing.T) {
	other := pod()
	other.UID = "u2"
	other.Annotations["of"] = "the other"
	for _, g := range []Gatherer{{}, {Pods: fake.NewSimpleClientset().CoreV1()}, {Pods: fake.NewSimpleClientset(other).CoreV1()}} {
		got, err := gather(t, g, who)
		if err != nil || !strings.Contains(got[PodFile], `"gone": true`) || !strings.Contains(got[PodFile], `"app": "web"`) || strings.Contains(got[PodFile], "the other") {
			t.Errorf("%s, %v", got[PodFile], err)
		}
	}
}

func TestWithoutTheRuntimeThereIsTheStatusInThePod(t *testing.T) {
	client := fake.NewSimpleClientset(pod()).CoreV1()
	for _, r := range []Runtime{nil, fakeRuntime{err: identity.ErrNoContainer}, fakeRuntime{err: identity.ErrNoRuntime}} {
		got, err := gather(t, Gatherer{Pods: client, Runtime: r}, who)
		if err != nil || !strings.Contains(got[ContainerFile], `"restartCount": 7`) {
			t.Errorf("%v, %v", got, err)
		}
	}
}

func TestWhatFailsDoesNotTakeTheRestWithIt(t *testing.T) {
	client := fake.NewSimpleClientset()
	down := errors.New("connection refused")
	client.PrependReactor("get", "pods", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, down })
	l, w := logs(t, map[string]string{"0.log": line(1, "hello")})
	got, err := gather(t, Gatherer{Pods: client.CoreV1(), Runtime: fakeRuntime{err: down}, Logs: l}, w)
	if !errors.Is(err, down) || len(got) != 2 || got[LogFile] == "" || got[PodFile] == "" {
		t.Errorf("%v, %v", slices.Sorted(maps.Keys(got)), err)
	}
}

func TestAPodThatIsTooLargeIsLeftOut(t *testing.T) {
	p := pod()
	p.Annotations["big"] = strings.Repeat("x", maxJSON)
	got, err := gather(t, Gatherer{Pods: fake.NewSimpleClientset(p).CoreV1()}, who)
	if err == nil || got[PodFile] != "" {
		t.Errorf("%d bytes, %v", len(got[PodFile]), err)
	}
}

// line is a line of a log in the format of CRI.
func line(i int, text string) string {
	return fmt.Sprintf("2026-01-02T03:04:05.%09dZ stdout F %s\n", i, text)
}

func TestCommandsAreLeftOutUnlessAskedFor(t *testing.T) {
	p := pod()
	const secret = "hunter2"
	words := func() []string { return []string{"run", "--password=" + secret} }
	probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: words()}}}
	hook := &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", HTTPHeaders: []corev1.HTTPHeader{{Name: "Authorization", Value: secret}}}}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			list[i].Command, list[i].Args, list[i].LivenessProbe, list[i].Lifecycle = words(), words(), probe, &corev1.Lifecycle{PreStop: hook}
		}
	}
	p.Spec.EphemeralContainers[0].Args = words()
	client := fake.NewSimpleClientset(p).CoreV1()
	if got, _ := gather(t, Gatherer{Pods: client}, who); strings.Contains(got[PodFile], secret) || !strings.Contains(got[PodFile], "Authorization") {
		t.Errorf("%s", got[PodFile])
	}
	if got, _ := gather(t, Gatherer{Pods: client, Cmdline: true}, who); !strings.Contains(got[PodFile], secret) {
		t.Errorf("%s", got[PodFile])
	}
}
