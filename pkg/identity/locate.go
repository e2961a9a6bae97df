// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"example.io/coredump/pkg/cgroup"
)

var (
	// ErrNotYet is returned where nobody knows yet whose the container is, or something of that is missing that another attempt may
	// bring: the API server, the runtime or the watch of pods is away or behind. How long to try is the caller's matter.
	ErrNotYet = errors.New("not known yet")
	// ErrContradiction is returned where kernel, runtime and API do not say the same. Trying again does not help.
	ErrContradiction = errors.New("contradiction")
)

// impatience bounds a question whose answer only confirms what is known already. A crashed process waits for it.
const impatience = 100 * time.Millisecond

// Locator finds out whose a container is.
//
// Two know: the runtime, which the kubelet told when it made the container, and the API, by the status that the kubelet
// writes. Each is authoritative, and often one of them is behind or away (the status of a container that crashes at its start comes late, the runtime forgets
// a deleted pod's containers), so one suffices. Where both answer they must agree. What is never believed alone
// is what a tenant can write: names, labels and annotations of pods. So a pod that claims by annotation to be the mirror of a static pod is taken for it only
// if the runtime says the same names or its status has the container.
type Locator struct {
	Place Place
	// Kubernetes knows the pods of this node, nil where there is none.
	Kubernetes *Kubernetes
	// CRI knows its containers, nil where it is not to be asked.
	CRI *CRI
}

// Locate tells whose the container is, of a crash at the time. It asks only what is not known already, so it usually answers within
// milliseconds, and never longer than ctx allows. With ErrNotYet comes what is known so far: Verified and the names of namespace and pod are valid
// if Verified is true.
func (l *Locator) Locate(ctx context.Context, id cgroup.ID, at time.Time) (Who, error) {
	w := Who{NodeName: l.Place.NodeName, ClusterName: l.Place.ClusterName}
	p := l.known(id, nil)
	t, missing := l.ask(ctx, id, p)
	if t != nil && t.uid != id.PodUID {
		return w, fmt.Errorf("identify %s: %w: its cgroup is of pod %s, the runtime says %.64q", id.ContainerID, ErrContradiction, id.PodUID, t.uid)
	}
	if p == nil && t != nil && l.Kubernetes != nil {
		if p = l.known(id, t); p == nil {
			var err error
			if p, err = l.Kubernetes.fetch(ctx, id, t); err != nil {
				missing = fmt.Errorf("pod %s/%s: %w", t.namespace, t.pod, err)
			} else {
				missing = nil
			}
		}
	}
	if p == nil && t == nil {
		return w, fmt.Errorf("identify %s: %w: %w", id.ContainerID, ErrNotYet, missing)
	}
	if t != nil {
		w.take(t)
	}
	if p != nil {
		if err := w.takePod(p, id, t); err != nil {
			return Who{NodeName: w.NodeName, ClusterName: w.ClusterName}, fmt.Errorf("identify %s: %w", id.ContainerID, err)
		}
	}
	if w.PodUID == "" {
		w.PodUID = id.PodUID
	}
	if err := w.check(); err != nil {
		return Who{NodeName: w.NodeName, ClusterName: w.ClusterName}, fmt.Errorf("identify %s: %w: %w", id.ContainerID, ErrContradiction, err)
	}
	w.Verified = true
	if l.Kubernetes != nil {
		if t != nil && !t.created.IsZero() && t.created.Before(at) {
			at = t.created // a namespace that is younger than the container is another one of the same name
		}
		ns, err := l.Kubernetes.namespaceFor(ctx, p, w.Namespace, at)
		if err != nil {
			missing = errors.Join(missing, fmt.Errorf("namespace %s: %w", w.Namespace, err))
		} else if missing != nil && t == nil && w.Container != "" {
			missing = nil // the runtime had only to confirm it
		}
		w.NamespaceUID, w.NamespaceLabels = ns.uid, ns.labels
	}
	if missing == nil && w.Container == "" {
		missing = errors.New("the pod's status has no such container")
	}
	if missing != nil {
		return w, fmt.Errorf("identify %s: %w: %w", id.ContainerID, ErrNotYet, missing)
	}
	return w, nil
}

// known gives the pod of the cgroup, if it is among those of this node.
func (l *Locator) known(id cgroup.ID, t *told) *pod {
	if l.Kubernetes == nil {
		return nil
	}
	return l.Kubernetes.memory.of(id, t)
}

// ask asks the runtime, for a moment where the container is known already.
func (l *Locator) ask(ctx context.Context, id cgroup.ID, p *pod) (*told, error) {
	switch {
	case l.CRI == nil:
		return nil, errors.New("no pod of this node has it")
	case p != nil && p.containerOf(id.ContainerID) != "":
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, impatience)
		defer cancel()
	}
	return l.CRI.tell(ctx, id.ContainerID)
}

func (w *Who) take(t *told) {
	w.Namespace, w.Pod, w.Container, w.Sandbox = t.namespace, t.pod, t.container, t.sandbox
	w.ContainerID, w.Image, w.ImageID, w.LogPath = t.id, t.image, t.imageID, t.logPath
	w.Sources = append(w.Sources, FromRuntime)
}

// takePod adds what the API says of the pod, which must fit what the runtime says.
func (w *Who) takePod(p *pod, id cgroup.ID, t *told) error {
	name := p.containerOf(id.ContainerID)
	if t != nil && (p.namespace != t.namespace || p.name != t.pod || name != "" && name != t.container) {
		return fmt.Errorf("%w: the runtime says %.63q/%.253q, container %.63q, the API %s/%s, container %q",
			ErrContradiction, t.namespace, t.pod, t.container, p.namespace, p.name, name)
	}
	w.Namespace, w.Pod, w.PodUID = p.namespace, p.name, p.uid
	w.Labels, w.Annotations, w.Owner = p.labels, p.annotations, p.owner.DeepCopy()
	w.Sources = append(w.Sources, FromAPI)
	if name != "" {
		w.Container = name
	}
	if c, ok := p.containers[w.Container]; ok && !w.Sandbox {
		w.Image = c.image
		for _, i := range c.instances {
			if bareID(i.id) == id.ContainerID {
				w.ContainerID = i.id
				if c.imageID != "" {
					w.ImageID = c.imageID
				}
			}
		}
	}
	return nil
}

// bareID cuts the scheme from a container's id.
func bareID(id string) string {
	_, bare, _ := strings.Cut(id, "://")
	return bare
}
