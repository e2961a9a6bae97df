// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import "strings"

const (
	root  = "kubepods"
	slice = ".slice"
)

// parsePod reads the components from the one that mentions kubepods on; parent is the one before it. It tells how many of them lead to the
// container.
func parsePod(parts []string, parent string) (ID, int, error) {
	switch first := parts[0]; {
	case first == root:
		return below(parts, Cgroupfs)
	case strings.Contains(first, ":"):
		id, err := oneName(first)
		return id, 1, err
	case first == root+slice, strings.HasSuffix(first, "-"+root+slice) && strings.TrimSuffix(first, "-"+root+slice)+slice == parent:
		return below(parts, Systemd)
	}
	return ID{}, 0, unclear("%.100q is not the kubelet's name", parts[0])
}

// below reads what is below the root of all pods (parts[0]):
//
//	cgroupfs  kubepods/burstable/pod<uid>/<container>
//	systemd   kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid_>.slice/<container>
//
// without the level of the class for guaranteed pods. systemd repeats the names of all slices above in that of each.
func below(parts []string, driver Driver) (ID, int, error) {
	id := ID{Driver: driver, QoS: Guaranteed}
	prefix, suffix := "", ""
	if driver == Systemd {
		prefix, suffix = strings.TrimSuffix(parts[0], slice)+"-", slice
	}
	n := 1
	for _, q := range []QoS{Burstable, BestEffort} {
		if len(parts) > 1 && parts[1] == prefix+string(q)+suffix {
			id.QoS = q
			n = 2
			if driver == Systemd {
				prefix += string(q) + "-"
			}
			break
		}
	}
	if len(parts) <= n {
		return ID{}, 0, unclear("no pod below %s", root)
	}
	name, hasPrefix := strings.CutPrefix(parts[n], prefix+"pod")
	name, hasSuffix := strings.CutSuffix(name, suffix)
	uid, ok := podUID(name, driver)
	if !hasPrefix || !hasSuffix || !ok {
		return ID{}, 0, unclear("%.100q is no pod", parts[n])
	}
	if len(parts) == n+1 {
		return ID{}, 0, unclear("no container in the pod")
	}
	var err error
	id.PodUID = uid
	id.ContainerID, id.Runtime, err = container(parts[n+1])
	return id, n + 2, err
}

// oneName reads <pod's slice>:<runtime>:<container>, which is what a runtime that was told to use cgroupfs makes of a kubelet that uses systemd's
// names. It is below the runtime's own cgroup then, wherever that is.
func oneName(name string) (ID, error) {
	part := strings.Split(name, ":")
	pod, ok := strings.CutPrefix(strings.TrimSuffix(part[0], slice), root+"-")
	if !ok || len(part) != 3 {
		return ID{}, unclear("%.100q is not the kubelet's name", name)
	}
	id := ID{Driver: Cgroupfs, QoS: Guaranteed, ContainerID: part[2]}
	for _, q := range []QoS{Burstable, BestEffort} {
		if rest, ok := strings.CutPrefix(pod, string(q)+"-"); ok {
			id.QoS, pod = q, rest
			break
		}
	}
	pod, isPod := strings.CutPrefix(pod, "pod")
	if id.PodUID, ok = podUID(pod, Systemd); !ok || !isPod {
		return ID{}, unclear("%.100q is no pod", name)
	}
	if id.Runtime, ok = runtimes[part[1]]; !ok || !isContainerID(part[2]) {
		return ID{}, unclear("%.100q is no container", name)
	}
	return id, nil
}

// runtimes are those that mark their containers' cgroups, by the mark.
var runtimes = map[string]Runtime{"cri-containerd": Containerd, "containerd": Containerd, "crio": CRIO, "docker": Docker, "libpod": Podman}

// container reads the name of a container's cgroup: <id>, <mark>-<id> or <mark>-<id>.scope.
func container(name string) (string, Runtime, error) {
	if isContainerID(name) {
		return name, "", nil
	}
	// The monitor of a container is in its pod's cgroup, and has the container's id in its name, but is a process of the host.
	if strings.HasPrefix(name, "crio-conmon-") {
		return "", "", ErrNoPod
	}
	marked := strings.TrimSuffix(name, ".scope")
	if i := strings.LastIndexByte(marked, '-'); i >= 0 {
		if r, ok := runtimes[marked[:i]]; ok && isContainerID(marked[i+1:]) {
			return marked[i+1:], r, nil
		}
	}
	return "", "", unclear("%.100q is no container", name)
}

// podUID reads the UID in the name of a pod's cgroup. The kubelet writes dashes as underscores in names of slices, where a dash has a meaning.
func podUID(name string, driver Driver) (string, bool) {
	dash := byte('-')
	if driver == Systemd {
		dash = '_'
	}
	if len(name) == 32 {
		return name, isHex(name)
	}
	if len(name) != 36 {
		return "", false
	}
	uid := []byte(name)
	for i, c := range uid {
		switch i {
		case 8, 13, 18, 23:
			if c != dash {
				return "", false
			}
			uid[i] = '-'
		default:
			if !isHexDigit(c) {
				return "", false
			}
		}
	}
	return string(uid), true
}

func isContainerID(s string) bool { return len(s) == 64 && isHex(s) }

func isHex(s string) bool {
	for i := range len(s) {
		if !isHexDigit(s[i]) {
			return false
		}
	}
	return true
}

func isHexDigit(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }
