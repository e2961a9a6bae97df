// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 is the first version of the coredump API. A CoreDump is at once the object that
// the API serves and, as JSON, the record that lies beside the core in the object store: there is
// one type, so there is one place to evolve it.
//
// +k8s:deepcopy-gen=package
// +k8s:openapi-gen=true
// +k8s:openapi-model-package=io.example.coredump.v1alpha1
// +groupName=coredump.example.io
package v1alpha1
