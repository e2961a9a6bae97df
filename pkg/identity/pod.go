// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// pod is what is kept of a pod.
type pod struct {
	uid        string
	created    time.Time
	deleted    time.Time // zero while it lives
	labels     map[string]string
	owner      *v1alpha1.OwnerReference
	containers map[string]container
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

// reduce takes from a pod what a record needs.
func reduce(p *corev1.Pod) *pod {
	r := &pod{uid: string(p.UID), created: p.CreationTimestamp.Time, labels: p.Labels, containers: map[string]container{}}
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
