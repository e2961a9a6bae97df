// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package node names the programs of a Kubernetes node, and the scheduler that gives it pods, which hack/build-tools.sh builds.
package node

import (
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
