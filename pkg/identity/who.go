// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
)

// AnnotationPrefix is the prefix of the annotations of pods and the labels of namespaces that are ours.
const AnnotationPrefix = "coredump.example.io/"

// SandboxContainer is the name under which dumps of a pod's sandbox process (pause) are kept.
const SandboxContainer = "pause"

// Source is who said whose a process is.
type Source string

// The sources. Each is enough alone.
const (
	// FromRuntime is the container runtime of this node: the kubelet told it names and UID of the pod when it made the container.
	FromRuntime Source = "cri"
	// FromAPI is the status of a pod of this node, which its kubelet wrote, or a pod's UID, which the API server gave.
	FromAPI Source = "api"
)

// Who is whose a process is. It is written into the spool as identity.json.
type Who struct {
	Namespace string `json:"namespace"`
	// NamespaceUID is empty where there was no such namespace any more, or only a younger one.
	NamespaceUID string `json:"namespaceUID,omitempty"`
	// NamespaceLabels are those under AnnotationPrefix.
	NamespaceLabels map[string]string `json:"namespaceLabels,omitempty"`
	Pod             string            `json:"pod"`
	// PodUID is the UID that the pod has in the API. For a static pod without a mirror it is the kubelet's own.
	PodUID string `json:"podUID"`
	// Container is empty as long as it is not known, see ErrNotYet.
	Container string `json:"container,omitempty"`
	// Sandbox is true for the process that holds the pod's namespaces.
	Sandbox bool `json:"sandbox,omitempty"`
	// ContainerID is the runtime's id of the container, as in the status of pods: containerd://3f1c…
	ContainerID string `json:"containerID,omitempty"`
	Image       string `json:"image,omitempty"`
	ImageID     string `json:"imageID,omitempty"`
	// Labels are those of the pod. Annotations are those under AnnotationPrefix.
	Labels      map[string]string        `json:"labels,omitempty"`
	Annotations map[string]string        `json:"annotations,omitempty"`
	Owner       *v1alpha1.OwnerReference `json:"owner,omitempty"`
	NodeName    string                   `json:"nodeName,omitempty"`
	ClusterName string                   `json:"clusterName,omitempty"`
	// LogPath is the file of the container's log on the node, as the runtime calls it.
	LogPath string `json:"logPath,omitempty"`
	// Verified is true where the kernel's word, which container it is, was found at one of the sources at least, and none contradicted.
	Verified bool     `json:"verified"`
	Sources  []Source `json:"sources,omitempty"`
}

// Fill completes a record with it: names, UIDs, labels, and how much that is worth.
func (w Who) Fill(d *v1alpha1.CoreDump) {
	d.Namespace = w.Namespace
	if len(w.Labels) > 0 {
		d.Labels = maps.Clone(w.Labels)
	}
	s := &d.Spec
	s.PodName, s.PodUID, s.NamespaceUID = w.Pod, w.PodUID, w.NamespaceUID
	s.ContainerName, s.ContainerID = w.Container, w.ContainerID
	s.Image, s.ImageID = w.Image, w.ImageID
	s.NodeName, s.ClusterName = w.NodeName, w.ClusterName
	s.Owner = w.Owner.DeepCopy()
	s.Capture.Identity = v1alpha1.IdentityClaimed
	if w.Verified {
		s.Capture.Identity = v1alpha1.IdentityVerified
	}
}

// maxWho bounds identity.json, in bytes.
const maxWho = 256 << 10

// Encode gives the text of identity.json.
func (w Who) Encode() ([]byte, error) {
	data, err := json.Marshal(w)
	if err == nil && len(data) > maxWho {
		err = fmt.Errorf("%d bytes are too many", len(data))
	}
	if err != nil {
		return nil, fmt.Errorf("identity of %s/%s: %w", w.Namespace, w.Pod, err)
	}
	return data, nil
}

// DecodeWho reads identity.json. It fails for names that cannot be names.
func DecodeWho(data []byte) (Who, error) {
	var w Who
	if err := decode(data, maxWho, &w); err != nil {
		return Who{}, fmt.Errorf("identity: %w", err)
	}
	if err := w.check(); err != nil {
		return Who{}, fmt.Errorf("identity: %w", err)
	}
	return w, nil
}

// check tells whether the names can be parts of the key of a dump.
func (w Who) check() error {
	if !storage.ValidNamespace(w.Namespace) || !storage.ValidPod(w.Pod) || w.Container != "" && !storage.ValidContainer(w.Container) || !validUID(w.PodUID) {
		return fmt.Errorf("%.63q, %.63q, %.63q, %.63q are not the names of a namespace, a pod, its UID and a container", w.Namespace, w.Pod, w.PodUID, w.Container)
	}
	return nil
}

// validUID tells whether s looks like a UID: a short word. Most are UUIDs, but a static pod may choose its own.
func validUID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return true
}

// decode reads one JSON value and nothing else. Fields that it does not know are ignored: a newer version may have written them, before it was rolled back.
func decode(data []byte, limit int, into any) error {
	if len(data) > limit {
		return fmt.Errorf("%d bytes are too many", len(data))
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows its end")
	}
	return nil
}
