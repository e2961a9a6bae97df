// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package coredumpendpoint

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/table"
)

var columns = []metav1.TableColumnDefinition{
	table.Column("Name", "Name of the pod.", false),
	table.Column("Containers", "Containers that have dumps.", false),
	table.Column("Dumps", "Number of dumps.", false),
	table.Column("Size", "Length of all cores.", false),
	table.Column("Newest", "Time since the last crash.", false),
	table.Column("Age", "Time since the first crash of which there is a dump.", false),
	table.Column("Stored", "Length of all cores as they are stored, compressed.", true),
	table.Column("Pod-UIDs", "UIDs of the pods that had this name, the one that crashed last first.", true),
}

// ConvertToTable makes what kubectl get prints.
func (r *REST) ConvertToTable(_ context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	now := r.now()
	return table.Of(obj, options, columns, func(obj runtime.Object) []any {
		e := obj.(*v1alpha1.CoreDumpEndpoint)
		var newest time.Time
		if e.Status.Newest != nil {
			newest = e.Status.Newest.Time
		}
		return []any{
			e.Name,
			table.Text(containers(e)),
			fmt.Sprint(e.Status.Count),
			table.Size(e.Status.Size),
			table.Age(newest, now),
			table.Age(e.CreationTimestamp.Time, now),
			table.Size(e.Status.StoredSize),
			table.Text(strings.Join(e.Status.PodUIDs, ",")),
		}
	})
}

func containers(e *v1alpha1.CoreDumpEndpoint) string {
	var names []string
	for _, c := range e.Status.Containers {
		names = append(names, c.Name)
	}
	return strings.Join(names, ",")
}
