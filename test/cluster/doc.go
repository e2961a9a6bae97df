// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster runs a real control plane (etcd, kube-apiserver, kube-controller-manager) and a real S3
// server as processes on the loopback interface, and our programs with them. The integration tests, the demo and the
// benchmarks are its users; for them there is no node: pods are objects, nothing runs them. The e2e tests add a node (StartNode) that runs pods, and our
// programs among them (Deploy); that needs root and the whole machine, see Isolated.
//
// Everything a cluster writes is below one directory, except for a node, and every process ends with the program that started it.
package cluster
