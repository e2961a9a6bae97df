// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package controlplane names the programs of a Kubernetes control plane that hack/controlplane.sh builds.
package controlplane

import (
	_ "go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
