// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
)

// namespace is what is kept of a namespace. Its zero value is for one that is not there. It does not change.
type namespace struct {
	uid            string
	created, asked time.Time
	labels         map[string]string // those under AnnotationPrefix
}

// namespaceNow gives the namespace of that name, at most namespaceFresh old.
func (k *Kubernetes) namespaceNow(ctx context.Context, name string) (namespace, error) {
	kept, _ := k.namespaces.Get(name)
	if ns, ok := kept.(namespace); ok && time.Since(ns.asked) <= namespaceFresh {
		return ns, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	asked := time.Now()
	got, err := k.client.Namespaces().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		k.namespaces.Remove(name)
		return namespace{}, nil
	}
	if err != nil {
		return namespace{}, err
	}
	ns := namespace{string(got.UID), got.CreationTimestamp.Time, asked, bounded(got.Labels, AnnotationPrefix)}
	k.namespaces.Add(name, ns)
	return ns, nil
}

// namespaceAt gives the namespace if it existed at the time. An older dump is of a namespace that had the same name, perhaps another
// tenant's.
func (k *Kubernetes) namespaceAt(ctx context.Context, name string, at time.Time) (namespace, error) {
	ns, err := k.namespaceNow(ctx, name)
	if err != nil || at.Before(ns.created) {
		return namespace{}, err
	}
	return ns, nil
}

// namespaceFor gives the namespace of a pod, or of a name where p is nil. A namespace that was once seen around a pod has been the pod's all
// the time: it cannot go before the pod. So where Kubernetes gives no answer in a moment, or the namespace is gone by now, what was seen serves.
func (k *Kubernetes) namespaceFor(ctx context.Context, p *pod, name string, at time.Time) (namespace, error) {
	if p == nil {
		return k.namespaceAt(ctx, name, at)
	}
	if p.ns != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, impatience)
		defer cancel()
	}
	ns, err := k.namespaceNow(ctx, name)
	switch {
	case err == nil && ns.uid != "" && !ns.created.After(p.created):
		k.memory.inNamespace(p, &ns)
		return ns, nil
	case p.ns != nil:
		return *p.ns, nil
	}
	return namespace{}, err
}

// want has the namespace of the pod asked for soon.
func (k *Kubernetes) want(p *pod) {
	if p == nil || p.ns != nil || !p.deleted.IsZero() {
		return
	}
	select {
	case k.wanted <- p:
	default: // then it is asked for when somebody needs it
	}
}

// prefetch asks for the namespaces of new pods until ctx ends: when one of their processes crashes there is no time.
func (k *Kubernetes) prefetch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-k.wanted:
			ask, cancel := context.WithTimeout(ctx, requestTimeout)
			if _, err := k.namespaceFor(ask, p, p.namespace, time.Now()); err != nil && ctx.Err() == nil {
				klog.FromContext(ctx).V(2).Info("The namespace of a new pod is not known yet", "namespace", p.namespace, "err", err)
			}
			cancel()
		}
	}
}
