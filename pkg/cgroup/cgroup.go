// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package cgroup reads from the cgroup of a process which container of which pod it belongs to. It is pure, and imports nothing of
// Kubernetes: corepipe links it.
//
// A process in a container can name cgroups below its own as it likes, and can have its own cgroup namespace. It cannot change what stands
// above its container's cgroup: that was made by kubelet and the runtime. So the first match from the root counts and nothing behind it,
// and a path that is not seen from the root tells nothing.
package cgroup

import (
	"errors"
	"fmt"
	"strings"
)

// MaxText is the length of text that Parse looks at, in bytes; what follows is ignored.
const MaxText = 64 << 10

var (
	// ErrNoPod is returned for a process that is no pod's: the host's own, also a runtime's monitor beside a container (conmon).
	ErrNoPod = errors.New("cgroup: of no pod")
	// ErrUnclear is returned where the cgroup does not tell whose the process is: the text is malformed, contradicts itself, is not
	// seen from the root, or names a pod in a shape that is not known. The process may be a pod's: it must not be treated as the host's.
	ErrUnclear = errors.New("cgroup: unclear")
)

// Driver is who makes the cgroups of pods, see cgroupDriver in the kubelet's configuration.
type Driver string

// The drivers.
const (
	Systemd  Driver = "systemd"
	Cgroupfs Driver = "cgroupfs"
)

// Runtime is the container runtime, by the names of its cgroups. It is empty where they do not have one.
type Runtime string

// The runtimes.
const (
	Containerd Runtime = "containerd"
	CRIO       Runtime = "cri-o"
	Docker     Runtime = "docker"
	Podman     Runtime = "podman"
)

// QoS is the quality of service class of a pod.
type QoS string

// The classes.
const (
	Guaranteed QoS = "guaranteed"
	Burstable  QoS = "burstable"
	BestEffort QoS = "besteffort"
)

// ID is what a cgroup says. Two values that are equal but for Path, Driver and Runtime are of the same container.
type ID struct {
	// PodUID is a UUID with dashes, or, for static pods, a hash of 32 hex digits: what the kubelet calls the UID of the pod. That of a static
	// pod is not the UID that its mirror has in the API, but its annotation kubernetes.io/config.hash.
	PodUID string
	// ContainerID are 64 hex digits. It may be the pod's sandbox, which a cgroup does not tell from a container.
	ContainerID string
	QoS         QoS
	Driver      Driver
	Runtime     Runtime
	// Path is the container's own cgroup, from the root of the hierarchy, without what is below it.
	Path string
}

// Parse reads /proc/<pid>/cgroup, as it is seen from the initial cgroup namespace, see cgroups(7). Errors are of the kind ErrNoPod or ErrUnclear.
//
// A node that runs in a container itself (kind, k3d) has its kubepods deeper in the tree, which is accepted: whether such a pod is one of
// this node's is told by who knows the pods of this node. A node in a pod counts as that pod. Below user.slice nothing is
// believed: users who may log in to the host have cgroups of their own there.
func Parse(text string) (ID, error) {
	whole := len(text) <= MaxText
	if !whole {
		text = text[:MaxText]
	}
	// What follows the last newline is a line that was cut.
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		text = text[:i]
	} else if !whole {
		return ID{}, unclear("a line that does not end")
	}
	if text == "" {
		return ID{}, unclear("nothing in it")
	}
	var found ID
	var none error
	for line := range strings.SplitSeq(text, "\n") {
		path, err := pathOf(line)
		if err != nil {
			return ID{}, err
		}
		id, err := parsePath(path)
		switch {
		case errors.Is(err, ErrNoPod):
			// Hierarchies that the kubelet does not use leave every process in the root.
			none = err
		case err != nil:
			return ID{}, err
		case found.PodUID != "" && (found.PodUID != id.PodUID || found.ContainerID != id.ContainerID):
			return ID{}, unclear("two containers: %s of pod %s, %s of pod %s", found.ContainerID, found.PodUID, id.ContainerID, id.PodUID)
		case found.PodUID == "":
			found = id
		}
	}
	if found.PodUID == "" {
		return ID{}, none
	}
	return found, nil
}

// pathOf gives the path of a line <hierarchy>:<controllers>:<path>.
func pathOf(line string) (string, error) {
	number, rest, ok1 := strings.Cut(line, ":")
	_, path, ok2 := strings.Cut(rest, ":")
	if !ok1 || !ok2 || number == "" || strings.Trim(number, "0123456789") != "" || !strings.HasPrefix(path, "/") {
		return "", unclear("the line %.100q", line)
	}
	// The kernel says so of a cgroup that has been removed while its last process was a zombie.
	return strings.TrimSuffix(path, " (deleted)"), nil
}

// parsePath reads the first mention of kubepods from the root.
func parsePath(path string) (ID, error) {
	if path == "/" {
		return ID{}, fmt.Errorf("%w: %s", ErrNoPod, path)
	}
	parts := strings.Split(path[1:], "/")
	if parts[0] == ".." {
		// The kernel writes so what is not below the root of the reader's own cgroup namespace.
		return ID{}, unclear("%.100q is not seen from the root", path)
	}
	for i, part := range parts {
		if part == "user.slice" {
			break
		}
		if !strings.Contains(part, "kubepods") {
			continue
		}
		id, n, err := parsePod(parts[i:], before(parts, i))
		if err != nil {
			return ID{}, fmt.Errorf("%w: %.300q", err, path)
		}
		id.Path = "/" + strings.Join(parts[:i+n], "/")
		return id, nil
	}
	return ID{}, fmt.Errorf("%w: %.100q", ErrNoPod, path)
}

func before(parts []string, i int) string {
	if i == 0 {
		return ""
	}
	return parts[i-1]
}

func unclear(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrUnclear}, args...)...)
}
