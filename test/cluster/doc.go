// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster runs a real control plane (etcd, kube-apiserver, kube-controller-manager) and a real S3
// server as processes on the loopback interface, and our programs with them. The integration tests, the demo and the
// benchmarks are its users. There is no node: pods are objects, nothing runs them.
//
// Everything a cluster writes is below one directory, every process ends with the program that started it.
package cluster
