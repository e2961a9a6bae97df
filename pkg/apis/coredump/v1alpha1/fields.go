// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"strconv"

	"k8s.io/apimachinery/pkg/fields"
)

const supportedFields = "metadata.name, metadata.namespace, spec.podName, spec.podUID, spec.containerName, " +
	"spec.nodeName, spec.process.signal, spec.process.signalName, spec.process.executable, spec.signal, status.truncated"

// SelectableFields are the values that field selectors of CoreDumps are matched against. spec.signal is
// short for spec.process.signalName (SIGSEGV); spec.process.signal is the number.
func SelectableFields(d *CoreDump) fields.Set {
	return fields.Set{
		"metadata.name":           d.Name,
		"metadata.namespace":      d.Namespace,
		"spec.podName":            d.Spec.PodName,
		"spec.podUID":             d.Spec.PodUID,
		"spec.containerName":      d.Spec.ContainerName,
		"spec.nodeName":           d.Spec.NodeName,
		"spec.signal":             d.Spec.Process.SignalName,
		"spec.process.signal":     strconv.Itoa(int(d.Spec.Process.Signal)),
		"spec.process.signalName": d.Spec.Process.SignalName,
		"spec.process.executable": d.Spec.Process.Executable,
		"status.truncated":        strconv.FormatBool(d.Status.Truncated),
	}
}
