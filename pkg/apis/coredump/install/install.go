// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package install registers every version of the group with a scheme, for the API server.
package install

import (
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// Install registers the group with the scheme. It panics where that is impossible, which only a
// programming error makes it.
func Install(scheme *runtime.Scheme) {
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddInternalToScheme(scheme))
	utilruntime.Must(scheme.SetVersionPriority(v1alpha1.SchemeGroupVersion))
}
