// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package apiserver puts the aggregated API server together: the generic API server without etcd and without admission, the
// REST storages of pkg/registry, and the checks and limits that a server of large streams needs.
package apiserver

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"example.io/coredump/pkg/apis/coredump/install"
)

var (
	// Scheme has the types that are served.
	Scheme = runtime.NewScheme()
	// Codecs reads and writes them.
	Codecs = serializer.NewCodecFactory(Scheme)
)

func init() {
	install.Install(Scheme)
	// The options of lists and watches, and Status, are of the group "" in all API groups.
	metav1.AddToGroupVersion(Scheme, schema.GroupVersion{Version: "v1"})
}
