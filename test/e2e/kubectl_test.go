// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"testing"
)

// admin runs kubectl as the cluster's administrator, and fails the test where it fails.
func (f *fixture) admin(t *testing.T, args ...string) string {
	t.Helper()
	return f.kubectl(t, f.cluster.Admin, args...)
}

// kubectl runs kubectl with a kubeconfig, and fails the test where it fails.
func (f *fixture) kubectl(t *testing.T, config string, args ...string) string {
	t.Helper()
	out, err := f.cluster.Kubectl(t.Context(), config, args...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// namespace makes a namespace that goes with the test.
func (f *fixture) namespace(t *testing.T, name string) string {
	t.Helper()
	f.admin(t, "create", "namespace", name)
	t.Cleanup(func() {
		_, _ = f.cluster.Kubectl(context.Background(), f.cluster.Admin, "delete", "namespace", name, "--wait=false", "--ignore-not-found")
	})
	return name
}

// user makes a user who may download the dumps of the namespace, and gives the kubeconfig.
func (f *fixture) user(t *testing.T, namespace string) string {
	t.Helper()
	name := namespace + "-developer"
	f.admin(t, "create", "rolebinding", "-n", namespace, name, "--clusterrole=coredump-downloader", "--user="+name)
	config, err := f.cluster.Kubeconfig(name)
	if err != nil {
		t.Fatal(err)
	}
	return config
}
