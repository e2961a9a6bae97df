// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/test/cluster"
)

const (
	corePattern = "/proc/sys/kernel/core_pattern"
	// watched is the directory of artifacts/base on the node.
	watched = "/var/coredump"
	// hostPattern is what the host had before us in the tests of pipe and socket: a file pattern, with which the kernel leaves cores of the host's own
	// processes in hostCores.
	hostCores   = dir + "/host-cores"
	hostPattern = hostCores + "/host-%e-%s-%P"
)

// mode is a way in which the kernel delivers dumps.
type mode struct {
	mode     v1alpha1.CaptureMode
	identity v1alpha1.Identity
	// prefix is what core_pattern begins with.
	prefix string
	// components are what the deployment needs for it, in artifacts/components.
	components []string
	// args are for the node handler, beside --capture.
	args []string
	// pod is what pods need for it; nil where they need nothing.
	pod func(*corev1.Pod)
}

// with is the mode with further arguments of the node handler.
func (m mode) with(args ...string) mode {
	m.args = slices.Concat(m.args, args)
	return m
}

// overlay is what the deployment has for it.
func (m mode) overlay() cluster.Overlay {
	return cluster.Overlay{Args: append([]string{"--capture=" + string(m.mode)}, m.args...), Components: m.components}
}

// file is the mode in which pods mount a directory, as docs/install.md says.
var file = mode{
	mode: v1alpha1.CaptureFile, identity: v1alpha1.IdentityClaimed, prefix: watched,
	pod: func(pod *corev1.Pod) {
		c := &pod.Spec.Containers[0]
		for name, field := range map[string]string{"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"} {
			c.Env = append(c.Env, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: field}}})
		}
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "coredump", MountPath: watched, SubPathExpr: "$(POD_NAMESPACE)/$(POD_NAME)/" + container})
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{
			Name: "coredump", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: watched, Type: new(corev1.HostPathDirectory)}},
		})
	},
}

var pipe = mode{mode: v1alpha1.CapturePipe, identity: v1alpha1.IdentityVerified, prefix: "|"}

var socket = mode{mode: v1alpha1.CaptureSocket, identity: v1alpha1.IdentityVerified, prefix: "@@", components: []string{"capture-socket"}}

// setPattern sets core_pattern in the name of the host's administrator.
func setPattern(pattern string) error { return os.WriteFile(corePattern, []byte(pattern), 0) }

// hostHandler gives the host a pattern of its own, unless the node handler has set one.
func hostHandler() error {
	now, err := os.ReadFile(corePattern)
	if err != nil || strings.HasPrefix(string(now), "|") || strings.HasPrefix(string(now), "@") {
		return err
	}
	return setPattern(hostPattern)
}

// enter brings the mode into force for the tests that follow, and skips the test where the node handler or the kernel does not have it.
func (f *fixture) enter(t *testing.T, m mode) {
	t.Helper()
	help, _ := exec.CommandContext(t.Context(), filepath.Join(f.bin, "nodehandler"), "--help").CombinedOutput()
	choice := strings.Contains(string(help), "--capture ")
	if !choice && m.mode != v1alpha1.CaptureFile {
		t.Skip("SKIPPED: this node handler has no --capture")
	}
	if m.mode == v1alpha1.CaptureSocket {
		modes, _ := os.ReadFile("/proc/sys/kernel/core_modes")
		if !slices.Contains(strings.Fields(string(modes)), "socket") {
			t.Skip("SKIPPED: this kernel has no coredump sockets (/proc/sys/kernel/core_modes)")
		}
	}
	if err := hostHandler(); err != nil {
		t.Fatal(err)
	}
	if choice {
		if err := f.deployment.Apply(t.Context(), m.overlay()); err != nil {
			t.Fatalf("%v\n%s", err, f.handlerLog())
		}
	}
	if m.mode == v1alpha1.CaptureFile { // what the administrator of the nodes does
		if err := errors.Join(os.Chmod(watched, 0o1777), setPattern(watched+"/core-%e-%t-%p-%s")); err != nil {
			t.Fatal(err)
		}
	}
	await(t, func(context.Context) error {
		pattern, err := os.ReadFile(corePattern)
		if err == nil && !strings.HasPrefix(string(pattern), m.prefix) {
			err = fmt.Errorf("core_pattern is %q, want %s…", pattern, m.prefix)
		}
		return err
	})
}

func TestDumpsOfPodsThatMountTheDirectoryAreKept(t *testing.T) {
	shared.enter(t, file)
	everyCrash(t, file)
	// The kubelet makes the directories that pods mount. Neither it nor uninstall removes them, for they are not ours: the administrator does.
	left, _ := filepath.Glob(watched + "/[^.]*")
	for _, d := range left {
		if err := os.RemoveAll(d); err != nil {
			t.Error(err)
		}
	}
}

func TestEveryCrashOfEveryPodIsTakenByThePipe(t *testing.T) {
	shared.enter(t, pipe)
	everyCrash(t, pipe)
	withoutHelpOfPods(t, pipe)
	lossless(t, pipe)
	t.Run("a crash while no node handler is there", func(t *testing.T) { withoutNodeHandler(t, pipe) })
	t.Run("the core is what the kernel sent, byte by byte", func(t *testing.T) { sameAsTheKernelSent(t, pipe) })
	t.Run("the host is as it was, after SIGKILL and uninstall", uninstallAfterKill)
}

func TestEveryCrashOfEveryPodIsTakenByTheSocket(t *testing.T) {
	shared.enter(t, socket)
	everyCrash(t, socket)
	withoutHelpOfPods(t, socket)
	lossless(t, socket)
	t.Run("the host is as it was, after SIGKILL and uninstall", uninstallAfterKill)
}
