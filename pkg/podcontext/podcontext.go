// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package podcontext gathers what pod, container and log say around a crash, as files of the context bundle. They are gathered while the
// crashed process is held or soon after: a pod and its log do not last.
package podcontext

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"example.io/coredump/pkg/bundle"
	"example.io/coredump/pkg/cgroup"
	"example.io/coredump/pkg/identity"
)

// Names of the files.
const (
	PodFile       = "pod.json"
	ContainerFile = "container.json"
	LogFile       = "log.txt"
)

// maxJSON bounds pod.json and container.json, in bytes.
const maxJSON = 2 << 20

// Runtime is what is asked of the container runtime; identity.CRI is one.
type Runtime interface {
	// Status gives the status of the container with that id, without a scheme.
	Status(ctx context.Context, id string) (*runtimeapi.ContainerStatus, error)
}

// Gatherer gathers. Safe for concurrent use.
type Gatherer struct {
	// Pods is the API of pods, nil where there is none.
	Pods corev1client.PodsGetter
	// Runtime is asked for the container, nil where it is not to be asked.
	Runtime Runtime
	// Logs is where the logs of pods are.
	Logs Logs
	// EnvValues has the values of environment variables in pod.json. They are left out otherwise: they are often secrets.
	EnvValues bool
	// Cmdline has the commands in pod.json: what is run, their arguments, and the headers of probes. They are left out otherwise, for the same reason.
	Cmdline bool
}

// Gather gives the files that could be had: the pod as the API has it, or else what is known of it; the container as the runtime has it, or else its
// status in the pod; the end of the container's log. The error says what is missing, and does not make the others worth less. id is the cgroup of
// the crashed process, w whose that is.
func (g *Gatherer) Gather(ctx context.Context, id cgroup.ID, w identity.Who) ([]bundle.File, error) {
	var files []bundle.File
	var failed []error
	add := func(name string, data []byte, err error) {
		if err == nil && name != LogFile && len(data) > maxJSON {
			err = fmt.Errorf("%d bytes are too many", len(data))
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", name, err))
		}
		if err == nil && len(data) > 0 {
			files = append(files, bundle.File{Name: name, Data: data})
		}
	}
	pod, err := g.pod(ctx, w)
	if err != nil {
		failed = append(failed, fmt.Errorf("%s: %w", PodFile, err))
	}
	data, err := g.podJSON(pod, w)
	add(PodFile, data, err)
	data, err = g.containerJSON(ctx, id, w, pod)
	add(ContainerFile, data, err)
	data, err = g.Logs.Tail(id, w)
	add(LogFile, data, err)
	return files, errors.Join(failed...)
}

// pod gives the pod that crashed, not one that has its name now; nil where it is gone.
func (g *Gatherer) pod(ctx context.Context, w identity.Who) (*corev1.Pod, error) {
	if g.Pods == nil {
		return nil, nil
	}
	got, err := g.Pods.Pods(w.Namespace).Get(ctx, w.Pod, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if string(got.UID) != w.PodUID {
		return nil, nil
	}
	return got, nil
}

// known is what pod.json has of a pod that is gone.
type known struct {
	Gone bool `json:"gone"`
	identity.Who
}

func (g *Gatherer) podJSON(p *corev1.Pod, w identity.Who) ([]byte, error) {
	if p == nil {
		return json.MarshalIndent(known{true, w}, "", "  ")
	}
	p = p.DeepCopy()
	p.Kind, p.APIVersion = "Pod", "v1"
	p.ManagedFields = nil
	// It repeats the specification, with the values of its environment.
	delete(p.Annotations, corev1.LastAppliedConfigAnnotation)
	if !g.EnvValues {
		redact(&p.Spec)
	}
	if !g.Cmdline {
		redactCommands(&p.Spec)
	}
	return json.MarshalIndent(p, "", "  ")
}

// Redacted stands for the value of an environment variable, or a word of a command.
const Redacted = "<redacted>"

func redact(s *corev1.PodSpec) {
	hide := func(env []corev1.EnvVar) {
		for i := range env {
			if env[i].Value != "" {
				env[i].Value = Redacted
			}
		}
	}
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range list {
			hide(list[i].Env)
		}
	}
	for i := range s.EphemeralContainers {
		hide(s.EphemeralContainers[i].Env)
	}
}

func redactCommands(s *corev1.PodSpec) {
	words := func(list []string) {
		for i := range list {
			list[i] = Redacted
		}
	}
	action := func(e *corev1.ExecAction, h *corev1.HTTPGetAction) {
		if e != nil {
			words(e.Command)
		}
		if h != nil {
			for i := range h.HTTPHeaders {
				h.HTTPHeaders[i].Value = Redacted
			}
		}
	}
	hide := func(command, args []string, l *corev1.Lifecycle, probes ...*corev1.Probe) {
		words(command)
		words(args)
		for _, p := range probes {
			if p != nil {
				action(p.Exec, p.HTTPGet)
			}
		}
		if l == nil {
			return
		}
		for _, h := range []*corev1.LifecycleHandler{l.PostStart, l.PreStop} {
			if h != nil {
				action(h.Exec, h.HTTPGet)
			}
		}
	}
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range list {
			c := &list[i]
			hide(c.Command, c.Args, c.Lifecycle, c.LivenessProbe, c.ReadinessProbe, c.StartupProbe)
		}
	}
	for i := range s.EphemeralContainers {
		c := &s.EphemeralContainers[i]
		hide(c.Command, c.Args, c.Lifecycle, c.LivenessProbe, c.ReadinessProbe, c.StartupProbe)
	}
}

// fromProto gives the same text for the same status, which protojson does not promise.
func fromProto(s *runtimeapi.ContainerStatus) ([]byte, error) {
	data, err := protojson.Marshal(s)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := json.Indent(&text, data, "", "  "); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

// containerJSON gives what the runtime says of the container, or else its status in the pod; nothing where neither is known.
func (g *Gatherer) containerJSON(ctx context.Context, id cgroup.ID, w identity.Who, p *corev1.Pod) ([]byte, error) {
	var failed error
	if g.Runtime != nil && !w.Sandbox {
		s, err := g.Runtime.Status(ctx, id.ContainerID)
		if err == nil {
			return fromProto(s)
		}
		if !errors.Is(err, identity.ErrNoContainer) {
			failed = err
		}
	}
	if p == nil {
		return nil, failed
	}
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for _, s := range list {
			if s.Name == w.Container {
				return json.MarshalIndent(s, "", "  ")
			}
		}
	}
	return nil, failed
}
