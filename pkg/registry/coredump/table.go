// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package coredump

import (
	"context"
	"path"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/table"
)

var columns = []metav1.TableColumnDefinition{
	table.Column("Name", "Name of the dump: <pod>.<container>.<id>.", false),
	table.Column("Pod", "Pod that the process ran in.", false),
	table.Column("Container", "Container that the process ran in.", false),
	table.Column("Executable", "Program that crashed, as it calls itself.", false),
	table.Column("Signal", "Signal that ended the process.", false),
	table.Column("Size", "Length of the core.", false),
	table.Column("Age", "Time since the crash.", false),
	table.Column("Node", "Node that the process ran on.", true),
	table.Column("Stored", "Length of the core as it is stored, compressed.", true),
	table.Column("Truncated", "Whether the core is shorter than it ought to be.", true),
	table.Column("Pod-UID", "UID of the pod.", true),
}

// ConvertToTable makes what kubectl get prints.
func (r *REST) ConvertToTable(_ context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	now := r.now()
	return table.Of(obj, options, columns, func(obj runtime.Object) []any {
		d := obj.(*v1alpha1.CoreDump)
		return []any{
			d.Name,
			table.Text(d.Spec.PodName),
			table.Text(d.Spec.ContainerName),
			table.Text(executable(d.Spec.Process)),
			table.Text(signal(d.Spec.Process)),
			table.Size(d.Status.Size),
			table.Age(d.Spec.Process.Time.Time, now),
			table.Text(d.Spec.NodeName),
			table.Size(d.Status.StoredSize),
			strconv.FormatBool(d.Status.Truncated),
			table.Text(d.Spec.PodUID),
		}
	})
}

func executable(p v1alpha1.Process) string {
	if p.Executable == "" {
		return p.Comm
	}
	return path.Base(p.Executable)
}

func signal(p v1alpha1.Process) string {
	if p.SignalName == "" && p.Signal != 0 {
		return strconv.Itoa(int(p.Signal))
	}
	return p.SignalName
}
