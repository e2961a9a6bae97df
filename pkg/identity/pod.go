// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// pod is what is kept of a pod. All but deleted, unseen and ns stays as it is.
type pod struct {
	namespace, name string
	uid             string
	created         time.Time
	deleted         time.Time // zero while it lives
	// unseen is true for a pod that was read from a file and that the API has not shown since.
	unseen bool
	// mirrors is the UID that the kubelet has for the static pod that this one claims to stand for; "" for others.
	mirrors     string
	labels      map[string]string
	annotations map[string]string // those under AnnotationPrefix
	owner       *v1alpha1.OwnerReference
	containers  map[string]container
	// ns is the namespace that the pod is in, as it was last seen; nil as long as it was not.
	ns *namespace
}

type container struct {
	image, imageID string
	// instances are the container's newest runs, the newest first.
	instances []instance
}

type instance struct {
	id      string
	started time.Time
}

// annotationMirror is set on mirror pods, see k8s.io/kubelet/pkg/types.ConfigMirrorAnnotationKey. Whoever may make pods can set it.
const annotationMirror = "kubernetes.io/config.mirror"

// maxTexts bounds what is kept of the labels, and of the annotations, of one pod or namespace, in bytes.
const maxTexts = 16 << 10

// bounded gives those entries whose key has the prefix, in the order of their keys for as long as there is room.
func bounded(m map[string]string, prefix string) map[string]string {
	var kept map[string]string
	room := maxTexts
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		if room -= len(key) + len(m[key]); room < 0 {
			break
		}
		if kept == nil {
			kept = map[string]string{}
		}
		kept[key] = m[key]
	}
	return kept
}

// reduce takes from a pod what a record needs.
func reduce(p *corev1.Pod) *pod {
	r := &pod{
		namespace: p.Namespace, name: p.Name, uid: string(p.UID), created: p.CreationTimestamp.Time, mirrors: p.Annotations[annotationMirror],
		labels: bounded(p.Labels, ""), annotations: bounded(p.Annotations, AnnotationPrefix), containers: map[string]container{},
	}
	if o := metav1.GetControllerOf(p); o != nil {
		r.owner = &v1alpha1.OwnerReference{APIVersion: o.APIVersion, Kind: o.Kind, Name: o.Name, UID: string(o.UID)}
	}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range list {
			r.containers[c.Name] = container{image: c.Image}
		}
	}
	for _, c := range p.Spec.EphemeralContainers {
		r.containers[c.Name] = container{image: c.Image}
	}
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for _, s := range list {
			c := r.containers[s.Name]
			c.imageID = s.ImageID
			c.instances = append(run(s.State, s.ContainerID), run(s.LastTerminationState, "")...)
			r.containers[s.Name] = c
		}
	}
	return r
}

// run gives the instance that a container's state is about, or none.
func run(s corev1.ContainerState, id string) []instance {
	switch {
	case s.Running != nil:
		return []instance{{id, s.Running.StartedAt.Time}}
	case s.Terminated != nil && s.Terminated.ContainerID != "":
		return []instance{{s.Terminated.ContainerID, s.Terminated.StartedAt.Time}}
	}
	return nil
}

// instanceAt gives the id of the instance that ran at the time: the newest that had started by then.
func (c container) instanceAt(t time.Time) string {
	for _, i := range c.instances {
		if !i.started.After(t) {
			return i.id
		}
	}
	return ""
}

// weight is about how many bytes it takes.
func (p *pod) weight() int {
	n := 512 + len(p.namespace) + len(p.name)
	for _, m := range []map[string]string{p.labels, p.annotations} {
		for k, v := range m {
			n += len(k) + len(v) + 32
		}
	}
	for name, c := range p.containers {
		n += 128 + len(name) + len(c.image) + len(c.imageID)
		for _, i := range c.instances {
			n += 48 + len(i.id)
		}
	}
	return n
}

// containerOf gives the name of the container that has the id (without the scheme), or "".
func (p *pod) containerOf(id string) string {
	for name, c := range p.containers {
		for _, i := range c.instances {
			if bareID(i.id) == id {
				return name
			}
		}
	}
	return ""
}

// fill completes the record of a crash in this pod.
func (p *pod) fill(d *v1alpha1.CoreDump) {
	c := p.containers[d.Spec.ContainerName]
	d.Spec.PodUID = p.uid
	d.Spec.Owner = p.owner.DeepCopy()
	d.Spec.Image, d.Spec.ImageID = c.image, c.imageID
	d.Spec.ContainerID = c.instanceAt(d.Spec.Process.Time.Time)
	if len(p.labels) > 0 {
		d.Labels = map[string]string{}
		maps.Copy(d.Labels, p.labels)
	}
}
