// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +genclient:onlyVerbs=get,list,watch
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// CoreDumpEndpoint is all core dumps of one pod name. Nobody creates it: it is there as soon as there is a
// dump, and it stays when the pod is gone. The bytes of the cores are in the subresource dump.
type CoreDumpEndpoint struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// status says what is in the store.
	// +optional
	Status CoreDumpEndpointStatus `json:"status,omitempty"`
}

// CoreDumpEndpointStatus sums up the dumps of one pod name.
type CoreDumpEndpointStatus struct {
	// podUIDs are the pods that had this name, the one that crashed last first. Select one with the parameter uid of dump.
	// +optional
	// +listType=atomic
	PodUIDs []string `json:"podUIDs,omitempty"`
	// containers are the containers that have dumps.
	// +optional
	// +listType=atomic
	Containers []ContainerDumps `json:"containers,omitempty"`
	// count is the number of dumps.
	Count int64 `json:"count"`
	// size is the length of all cores in bytes, uncompressed.
	Size int64 `json:"size"`
	// storedSize is the length of all stored objects in bytes.
	StoredSize int64 `json:"storedSize"`
	// newest is the time of the last crash.
	// +optional
	Newest *metav1.Time `json:"newest,omitempty"`
}

// ContainerDumps sums up the dumps of one container name.
type ContainerDumps struct {
	// name of the container.
	Name string `json:"name"`
	// count is the number of dumps.
	Count int64 `json:"count"`
	// size is the length of its cores in bytes, uncompressed.
	Size int64 `json:"size"`
	// newest is the time of the last crash.
	// +optional
	Newest *metav1.Time `json:"newest,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// CoreDumpEndpointList is a list of core dump endpoints.
type CoreDumpEndpointList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the endpoints, ordered by namespace and pod name.
	Items []CoreDumpEndpoint `json:"items"`
}
