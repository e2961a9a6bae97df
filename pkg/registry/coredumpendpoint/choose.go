// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package coredumpendpoint

import (
	"cmp"
	"container/heap"
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
	kept                    oldestFirst
	size                    int64 // of the records of kept
	// lost is the newest that was dropped for its length alone, though the query may ask for it: kept has nothing older. Nil where none was.
	lost *kept
}

type kept struct {
	dump *v1alpha1.CoreDump
	size int64
	n    int64 // in the order that they came in
}

// older tells which of two goes first where the latest are asked for. Of the same time it is the one that came last.
func (k kept) older(than kept) bool {
	t := k.dump.Spec.Process.Time.Compare(than.dump.Spec.Process.Time.Time)
	return t < 0 || t == 0 && k.n > than.n
}

// oldestFirst is a heap.
type oldestFirst []kept

func (o oldestFirst) Len() int           { return len(o) }
func (o oldestFirst) Less(i, j int) bool { return o[i].older(o[j]) }
func (o oldestFirst) Swap(i, j int)      { o[i], o[j] = o[j], o[i] }
func (o *oldestFirst) Push(k any)        { *o = append(*o, k.(kept)) }
func (o *oldestFirst) Pop() any {
	last := len(*o) - 1
	k := (*o)[last]
	(*o)[last] = kept{} // its record may be forgotten
	*o = (*o)[:last]
	return k
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
	if !q.Since.IsZero() && d.Spec.Process.Time.Time.Before(q.Since) { // a record may be of the year 0
		return nil
	}
	k := kept{d, size, c.all.count}
	if c.lost != nil && k.older(*c.lost) {
		return nil
	}
	heap.Push(&c.kept, k)
	c.size += size
	if q.Latest == 0 && c.size > maxRecords {
		return errTooLong()
	}
	for q.Latest > 0 && (len(c.kept) > q.Latest || c.size > maxRecords) {
		oldest := heap.Pop(&c.kept).(kept)
		c.size -= oldest.size
		if len(c.kept) < q.Latest { // unless enough newer ones are still to come
			c.lost = &oldest
		}
	}
	return nil
}

func errTooLong() error {
	return apierrors.NewBadRequest(fmt.Sprintf("the records of the core dumps that are asked for have more than %d MiB, as those of pods with very large labels do; narrow it with container, uid, since or latest", maxRecords>>20))
}

// chosen gives the dumps, at least one, in the order that they came in. Nothing is added after that. Where a condition of the query leaves nothing, the error is a Status that says what there would be.
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
	case c.lost != nil && len(c.kept) < q.Latest:
		return nil, errTooLong()
	case len(c.kept) == 0:
		return nil, nothing(c.pod, "there is no core dump of pod %q since %s; the newest is of %s",
			c.pod, q.Since.UTC().Format(time.RFC3339), c.ofUID.newest.UTC().Format(time.RFC3339))
	}
	slices.SortFunc(c.kept, func(a, b kept) int { return cmp.Compare(a.n, b.n) })
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
