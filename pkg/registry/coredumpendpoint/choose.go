// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package coredumpendpoint

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/download"
	"example.io/coredump/pkg/registry/status"
	"example.io/coredump/pkg/registry/table"
	"example.io/coredump/pkg/storage"
)

// maxNamed bounds how many names an error message lists.
const maxNamed = 20

// maxRecords bounds the records of the dumps that are chosen, as they are in the bucket, in bytes. They are in memory as long as the download runs. Records of
// more than some KiB are rare; a pod can have made hers so long that ten thousand of them take a GiB.
const maxRecords = 16 << 20

// chooser takes dumps of one pod name, in any order, and keeps those that a query asks for and no others.
type chooser struct {
	query download.Query
	pod   string
	// all are summed up, as are those of the container, and of those the ones of the UID: to say what there would be.
	all, ofContainer, ofUID *summary
	kept                    []kept
	size                    int64 // of the records of kept
}

type kept struct {
	dump *v1alpha1.CoreDump
	size int64
}

func newChooser(q download.Query, pod string) *chooser {
	return &chooser{query: q, pod: pod, all: newSummary("", ""), ofContainer: newSummary("", ""), ofUID: newSummary("", "")}
}

// add takes a dump whose record has size bytes. The error is a Status.
func (c *chooser) add(d *v1alpha1.CoreDump, size int64) error {
	q := c.query
	c.all.add(d)
	if q.Container != "" && d.Spec.ContainerName != q.Container {
		return nil
	}
	c.ofContainer.add(d)
	if q.UID != "" && d.Spec.PodUID != q.UID {
		return nil
	}
	c.ofUID.add(d)
	if d.Spec.Process.Time.Time.Before(q.Since) {
		return nil
	}
	c.kept = append(c.kept, kept{d, size})
	c.size += size
	if q.Latest > 0 && len(c.kept) >= 2*q.Latest {
		c.keepLatest()
	}
	if c.size > maxRecords {
		c.keepLatest()
	}
	if c.size > maxRecords {
		return apierrors.NewBadRequest(fmt.Sprintf("the records of the core dumps that are asked for have more than %d MiB, as those of pods with very large labels do; narrow it with container, uid, since or latest", maxRecords>>20))
	}
	return nil
}

// keepLatest keeps the newest where the query asks for those only, in the order that they came in.
func (c *chooser) keepLatest() {
	if c.query.Latest == 0 || len(c.kept) <= c.query.Latest {
		return
	}
	byTime := slices.Clone(c.kept)
	slices.SortStableFunc(byTime, func(a, b kept) int {
		return b.dump.Spec.Process.Time.Compare(a.dump.Spec.Process.Time.Time)
	})
	chosen := map[*v1alpha1.CoreDump]bool{}
	for _, k := range byTime[:c.query.Latest] {
		chosen[k.dump] = true
	}
	c.kept = slices.DeleteFunc(c.kept, func(k kept) bool { return !chosen[k.dump] })
	c.size = 0
	for _, k := range c.kept {
		c.size += k.size
	}
}

// chosen gives the dumps, at least one. Where a condition of the query leaves nothing, the error is a Status that says what there would be.
func (c *chooser) chosen() ([]*v1alpha1.CoreDump, error) {
	q := c.query
	switch {
	case c.all.count == 0:
		return nil, storage.ErrNotFound
	case c.ofContainer.count == 0:
		return nil, nothing(c.pod, "there is no core dump of container %q of pod %q; there are dumps of: %s",
			q.Container, c.pod, names(slices.Sorted(maps.Keys(c.all.containers))))
	case c.ofUID.count == 0:
		return nil, nothing(c.pod, "there is no core dump of a pod %q with the UID %s; there are dumps of: %s",
			c.pod, q.UID, names(uidsOf(c.ofContainer.uids)))
	case len(c.kept) == 0:
		return nil, nothing(c.pod, "there is no core dump of pod %q since %s; the newest is of %s",
			c.pod, q.Since.UTC().Format(time.RFC3339), c.ofUID.newest.UTC().Format(time.RFC3339))
	}
	c.keepLatest()
	dumps := make([]*v1alpha1.CoreDump, 0, len(c.kept))
	for _, k := range c.kept {
		dumps = append(dumps, k.dump)
	}
	return dumps, nil
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
