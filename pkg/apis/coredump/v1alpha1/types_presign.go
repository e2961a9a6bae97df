// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// PresignedURL is what the subresource presign of a core dump gives: a URL of the stored object that needs no credentials, for who can reach the
// object store directly. Whoever has the URL has the core until it expires: treat it like the core.
type PresignedURL struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// status is what the server answers. What a request says here is ignored.
	// +optional
	Status PresignedURLStatus `json:"status,omitempty"`
}

// PresignedURLStatus is the URL, and what tells whether what it leads to is the core.
type PresignedURLStatus struct {
	// url is where a GET, also of ranges, gives the stored object.
	URL string `json:"url"`
	// expires is until when the URL can be used. It ends earlier if the credentials of the server do.
	Expires metav1.Time `json:"expires"`
	// codec is how the object is compressed: zst, gz, or empty for not at all.
	// +optional
	Codec string `json:"codec,omitempty"`
	// storedSize is the length of the object in bytes.
	StoredSize int64 `json:"storedSize"`
	// checksum of the object, as <algorithm>:<value>, for example crc64nvme:AAAAAAAAAAA=.
	// +optional
	Checksum string `json:"checksum,omitempty"`
	// size is the length of the core in bytes.
	Size int64 `json:"size"`
	// sha256 is the hex SHA-256 of the core, uncompressed.
	SHA256 string `json:"sha256"`
}
