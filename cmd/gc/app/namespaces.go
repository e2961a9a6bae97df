// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/pager"

	"example.io/coredump/pkg/retention"
)

// livingNamespaces lists the namespaces of the cluster. A list without kube-system is not the list of a cluster that
// works, and is refused: by it, all dumps would be of namespaces that are gone.
func livingNamespaces(ctx context.Context, client kubernetes.Interface) (retention.Namespaces, error) {
	living := retention.Namespaces{}
	list := pager.New(func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
		return client.CoreV1().Namespaces().List(ctx, opts)
	})
	err := list.EachListItem(ctx, metav1.ListOptions{}, func(obj runtime.Object) error {
		ns := obj.(*corev1.Namespace)
		living[ns.Name] = retention.Namespace{UID: string(ns.UID), Created: ns.CreationTimestamp.Time}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	if _, ok := living[metav1.NamespaceSystem]; !ok {
		return nil, fmt.Errorf("list namespaces: no %s among the %d that the API server has: it cannot be trusted", metav1.NamespaceSystem, len(living))
	}
	return living, nil
}
