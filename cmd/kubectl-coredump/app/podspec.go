// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

const (
	debugContainer  = "debugger"
	targetContainer = "target"
	coreDir         = "/coredump"
	targetDir       = "/target"
	// targetMark is in the environment of what keeps the crashed image running; by it the debugger finds its root.
	targetMark = "COREDUMP_DEBUG_TARGET"
	// nobody is the user of the debug pod. Two processes of one user may look at each other's root.
	nobody = 65532
	// debugTime ends a pod that was left behind.
	debugTime = 8 * time.Hour
	// imageVolumes is the minor version of Kubernetes 1 from which on image volumes need no feature gate.
	imageVolumes = 35
	removeTime   = 30 * time.Second
)

// imageOf is the image that crashed, by its digest where that is known.
func imageOf(d *v1alpha1.CoreDump) string {
	if id := strings.TrimPrefix(d.Spec.ImageID, "docker-pullable://"); strings.Contains(id, "@sha256:") {
		return id
	}
	return d.Spec.Image
}

// debugPod makes the pod. Nothing in it has a right on the cluster, or is root.
func debugPod(d *v1alpha1.CoreDump, image, share string, o debugOptions) *corev1.Pod {
	restricted := &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	// A core may take its size, and the file system some more for it.
	limit := resource.NewQuantity(max(d.Status.Size, 0)+d.Status.Size/64+64<<20, resource.BinarySI)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "coredump-debug-",
			Namespace:    d.Namespace,
			Labels:       map[string]string{"app.kubernetes.io/name": "coredump-debug"},
			Annotations:  map[string]string{group + "/coredump": d.Name},
		},
		Spec: corev1.PodSpec{
			Affinity:                      near(d.Spec.NodeName),
			RestartPolicy:                 corev1.RestartPolicyNever,
			ActiveDeadlineSeconds:         new(int64(debugTime.Seconds())),
			TerminationGracePeriodSeconds: new(int64(0)),
			AutomountServiceAccountToken:  new(false),
			EnableServiceLinks:            new(false),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(nobody)), RunAsGroup: new(int64(nobody)), FSGroup: new(int64(nobody)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Volumes: []corev1.Volume{{Name: "core", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: limit}}}},
			Containers: []corev1.Container{{
				Name: debugContainer, Image: o.image, Command: []string{"sh", "-c", fmt.Sprintf("exec sleep %.0f", debugTime.Seconds())},
				WorkingDir:      coreDir,
				Env:             []corev1.EnvVar{{Name: "HOME", Value: coreDir}},
				VolumeMounts:    []corev1.VolumeMount{{Name: "core", MountPath: coreDir}},
				SecurityContext: restricted,
			}},
		},
	}
	for _, secret := range o.secrets {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: secret})
	}
	if share == "process" {
		pod.Spec.ShareProcessNamespace = new(true)
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
			Name: targetContainer, Image: image, Command: o.hold,
			Env:             []corev1.EnvVar{{Name: targetMark, Value: "1"}},
			SecurityContext: restricted,
		})
		return pod
	}
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "image", VolumeSource: corev1.VolumeSource{
		Image: &corev1.ImageVolumeSource{Reference: image, PullPolicy: corev1.PullIfNotPresent},
	}})
	debugger := &pod.Spec.Containers[0]
	debugger.VolumeMounts = append(debugger.VolumeMounts, corev1.VolumeMount{Name: "image", MountPath: targetDir, ReadOnly: true})
	return pod
}

// near prefers the node, which has the image. The name is the record's: what cannot be a label is nothing.
func near(node string) *corev1.Affinity {
	if node == "" || len(validation.IsValidLabelValue(node)) > 0 {
		return nil
	}
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
		Weight: 100,
		Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{
			Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
		}}},
	}}}}
}
