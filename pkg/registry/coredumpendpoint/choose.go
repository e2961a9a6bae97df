// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package coredumpendpoint

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/download"
	"example.io/coredump/pkg/registry/status"
	"example.io/coredump/pkg/registry/table"
)

// maxNamed bounds how many names an error message lists.
const maxNamed = 20

// choose gives those of the dumps (at least one) of the pod name that the query asks for, in the same order. Where one of its
// conditions leaves nothing, the error is a Status that says what there would be.
func choose(dumps []*v1alpha1.CoreDump, q download.Query, pod string) ([]*v1alpha1.CoreDump, error) {
	if q.Container != "" {
		s := sum(dumps)
		dumps = only(dumps, func(d *v1alpha1.CoreDump) bool { return d.Spec.ContainerName == q.Container })
		if len(dumps) == 0 {
			return nil, nothing(pod, "there is no core dump of container %q of pod %q; there are dumps of: %s",
				q.Container, pod, names(slices.Sorted(maps.Keys(s.containers))))
		}
	}
	if q.UID != "" {
		s := sum(dumps)
		dumps = only(dumps, func(d *v1alpha1.CoreDump) bool { return d.Spec.PodUID == q.UID })
		if len(dumps) == 0 {
			return nil, nothing(pod, "there is no core dump of a pod %q with the UID %s; there are dumps of: %s",
				pod, q.UID, names(uidsOf(s.uids)))
		}
	}
	if !q.Since.IsZero() {
		newest := sum(dumps).newest
		dumps = only(dumps, func(d *v1alpha1.CoreDump) bool { return !d.Spec.Process.Time.Time.Before(q.Since) })
		if len(dumps) == 0 {
			return nil, nothing(pod, "there is no core dump of pod %q since %s; the newest is of %s",
				pod, q.Since.UTC().Format(time.RFC3339), newest.UTC().Format(time.RFC3339))
		}
	}
	if q.Latest > 0 {
		dumps = latest(dumps, q.Latest)
	}
	return dumps, nil
}

func sum(dumps []*v1alpha1.CoreDump) *summary {
	s := newSummary("", "")
	for _, d := range dumps {
		s.add(d)
	}
	return s
}

func only(dumps []*v1alpha1.CoreDump, keep func(*v1alpha1.CoreDump) bool) []*v1alpha1.CoreDump {
	var kept []*v1alpha1.CoreDump
	for _, d := range dumps {
		if keep(d) {
			kept = append(kept, d)
		}
	}
	return kept
}

// latest gives the n newest, in the order that they have in dumps.
func latest(dumps []*v1alpha1.CoreDump, n int) []*v1alpha1.CoreDump {
	byTime := slices.Clone(dumps)
	slices.SortStableFunc(byTime, func(a, b *v1alpha1.CoreDump) int {
		return b.Spec.Process.Time.Compare(a.Spec.Process.Time.Time)
	})
	chosen := map[*v1alpha1.CoreDump]bool{}
	for _, d := range byTime[:min(n, len(byTime))] {
		chosen[d] = true
	}
	return only(dumps, func(d *v1alpha1.CoreDump) bool { return chosen[d] })
}

// names lists what comes from records, so it may be anything.
func names(all []string) string {
	if len(all) == 0 {
		return "pods of unknown UID"
	}
	var shown []string
	for _, name := range all[:min(len(all), maxNamed)] {
		shown = append(shown, table.Text(name))
	}
	if n := len(all) - maxNamed; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(shown, ", "), n)
	}
	return strings.Join(shown, ", ")
}

func nothing(pod, format string, args ...any) error {
	return status.NotFound(resource, pod, fmt.Sprintf(format, args...))
}
