// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/lru"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/cgroup"
	"example.io/coredump/pkg/storage"
)

const (
	// requestTimeout bounds one question to the API server.
	requestTimeout = 15 * time.Second
	// A namespace is asked for again after namespaceFresh: one of the same name may have another UID.
	namespaceFresh = 10 * time.Second
	namespacesKept = 1024
)

// Kubernetes identifies by the pods of this node and by their namespaces. It needs get, list and watch of pods, and get of
// namespaces. Safe for concurrent use.
type Kubernetes struct {
	place      Place
	client     corev1client.CoreV1Interface
	memory     *memory
	pods       cache.Controller
	namespaces *lru.Cache
	// wanted are pods whose namespaces are to be asked for before somebody has to wait for the answer.
	wanted chan *pod
	// file is where the memory is kept; "" for nowhere.
	file string
}

// NewKubernetes makes an identifier for the node of the place, which must have a name.
func NewKubernetes(client corev1client.CoreV1Interface, place Place) *Kubernetes {
	k := &Kubernetes{place: place, client: client, memory: newMemory(), namespaces: lru.New(namespacesKept), wanted: make(chan *pod, namespacesKept)}
	ofNode := func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", place.NodeName).String()
	}
	_, k.pods = cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				ofNode(&o)
				return client.Pods(metav1.NamespaceAll).List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				ofNode(&o)
				return client.Pods(metav1.NamespaceAll).Watch(ctx, o)
			},
		}, client),
		ObjectType: &corev1.Pod{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    k.seen,
			UpdateFunc: func(_, pod any) { k.seen(pod) },
			DeleteFunc: k.deleted,
		},
		Transform: bare,
	})
	return k
}

// Run follows the pods of this node until ctx ends. It returns at once then; while the API server is away, client-go needs some seconds more
// to give up the request that it is trying, which nobody waits for.
func (k *Kubernetes) Run(ctx context.Context) error {
	go k.pods.RunWithContext(ctx)
	var both sync.WaitGroup
	both.Go(func() { k.prefetch(ctx) })
	both.Go(func() { k.keep(ctx) })
	both.Wait()
	return nil
}

// Synced tells whether all pods of this node are known.
func (k *Kubernetes) Synced() bool { return k.pods.HasSynced() }

// bare drops from a pod what reduce does not need, before the informer keeps it.
func bare(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	kept := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion,
			CreationTimestamp: p.CreationTimestamp, Labels: p.Labels, OwnerReferences: p.OwnerReferences, Annotations: bounded(p.Annotations, AnnotationPrefix),
		},
		Status: corev1.PodStatus{
			InitContainerStatuses: p.Status.InitContainerStatuses, ContainerStatuses: p.Status.ContainerStatuses,
			EphemeralContainerStatuses: p.Status.EphemeralContainerStatuses,
		},
	}
	if mirrors, ok := p.Annotations[annotationMirror]; ok {
		metav1.SetMetaDataAnnotation(&kept.ObjectMeta, annotationMirror, mirrors)
	}
	kept.Spec.InitContainers = bareContainers(p.Spec.InitContainers)
	kept.Spec.Containers = bareContainers(p.Spec.Containers)
	for _, c := range p.Spec.EphemeralContainers {
		kept.Spec.EphemeralContainers = append(kept.Spec.EphemeralContainers, corev1.EphemeralContainer{
			EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: c.Name, Image: c.Image},
		})
	}
	return kept, nil
}

func bareContainers(list []corev1.Container) (kept []corev1.Container) {
	for _, c := range list {
		kept = append(kept, corev1.Container{Name: c.Name, Image: c.Image})
	}
	return kept
}

func (k *Kubernetes) seen(obj any) {
	if p, ok := obj.(*corev1.Pod); ok {
		k.memory.put(p.Namespace+"/"+p.Name, reduce(p))
		k.want(k.memory.byUID(string(p.UID)))
	}
}

func (k *Kubernetes) deleted(obj any) {
	if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = last.Obj
	}
	if p, ok := obj.(*corev1.Pod); ok {
		k.memory.put(p.Namespace+"/"+p.Name, reduce(p))
		k.memory.remove(p.Namespace+"/"+p.Name, string(p.UID), time.Now())
	}
}

// Identify completes the record, whose names, process time and namespace must be set. What Kubernetes does not know stays empty.
// It fails where Kubernetes gives no answer, for then the record would lack what decides who may
// see it: try again. That there is no such pod or namespace is an answer.
func (k *Kubernetes) Identify(ctx context.Context, d *v1alpha1.CoreDump) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	k.place.fill(d)
	ns, err := k.namespaceAt(ctx, d.Namespace, d.Spec.Process.Time.Time)
	if err != nil {
		return fmt.Errorf("identify: namespace %s: %w", d.Namespace, err)
	}
	d.Spec.NamespaceUID = ns.uid
	p, err := k.podAt(ctx, d)
	if err != nil {
		return fmt.Errorf("identify: pod %s/%s: %w", d.Namespace, d.Spec.PodName, err)
	}
	if p != nil {
		p.fill(d)
	}
	return nil
}

// podAt gives the pod that crashed, or nil where that cannot be told. It asks for the pod that has the name now, for the watch may
// be behind just when a pod has been replaced, and chooses among that one and those that are remembered.
func (k *Kubernetes) podAt(ctx context.Context, d *v1alpha1.CoreDump) (*pod, error) {
	name := d.Namespace + "/" + d.Spec.PodName
	got, err := k.client.Pods(d.Namespace).Get(ctx, d.Spec.PodName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return nil, err
	case got.Spec.NodeName == k.place.NodeName:
		k.memory.put(name, reduce(got))
	}
	return k.memory.at(name, d.Spec.Process.Time.Time), nil
}

// fetch asks for the pod that the runtime named, where the watch does not know it, or not any more. It gives nil where there is no such pod now.
func (k *Kubernetes) fetch(ctx context.Context, id cgroup.ID, t *told) (*pod, error) {
	if !storage.ValidNamespace(t.namespace) || !storage.ValidPod(t.pod) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	got, err := k.client.Pods(t.namespace).Get(ctx, t.pod, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p := reduce(got)
	if got.Spec.NodeName != k.place.NodeName || p.uid != id.PodUID && !p.standsFor(id, t) {
		return nil, nil
	}
	k.memory.put(p.namespace+"/"+p.name, p)
	return k.memory.byUID(string(got.UID)), nil
}
