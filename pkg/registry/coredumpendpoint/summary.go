// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package coredumpendpoint

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/revision"
)

// uidSpace is the name space of the UIDs of endpoints (RFC 9562, version 5): a UID follows from namespace and pod name.
var uidSpace = uuid.MustParse("b2f4c6f7-6a0e-4a53-9a55-0e8f6f1d7c31")

// summary sums up the dumps of one pod name.
type summary struct {
	namespace, pod string

	count, size, stored int64
	oldest, newest      time.Time
	version             int64 // the newest resource version
	set                 revision.Set
	uids                map[string]time.Time
	containers          map[string]*v1alpha1.ContainerDumps
}

func newSummary(namespace, pod string) *summary {
	return &summary{namespace: namespace, pod: pod, uids: map[string]time.Time{}, containers: map[string]*v1alpha1.ContainerDumps{}}
}

func (s *summary) add(d *v1alpha1.CoreDump) {
	at := d.Spec.Process.Time.Time
	s.count++
	s.set.Add(d.Name)
	s.size += d.Status.Size
	s.stored += d.Status.StoredSize
	if s.count == 1 || at.Before(s.oldest) {
		s.oldest = at
	}
	s.newest = later(s.newest, at)
	if v, err := strconv.ParseInt(d.ResourceVersion, 10, 64); err == nil {
		s.version = max(s.version, v)
	}
	if uid := d.Spec.PodUID; uid != "" {
		s.uids[uid] = later(s.uids[uid], at)
	}
	c := s.containers[d.Spec.ContainerName]
	if c == nil {
		c = &v1alpha1.ContainerDumps{Name: d.Spec.ContainerName, Newest: &metav1.Time{}}
		s.containers[c.Name] = c
	}
	c.Count++
	c.Size += d.Status.Size
	c.Newest.Time = later(c.Newest.Time, at)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// endpoint gives the object. At least one dump must have been added.
func (s *summary) endpoint() *v1alpha1.CoreDumpEndpoint {
	e := &v1alpha1.CoreDumpEndpoint{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:         s.namespace,
			Name:              s.pod,
			UID:               types.UID(uuid.NewSHA1(uidSpace, []byte(s.namespace+"/"+s.pod)).String()),
			ResourceVersion:   revision.Of(time.Unix(0, s.version), s.set.Fingerprint()), // another one when a dump is deleted, too
			CreationTimestamp: metav1.NewTime(s.oldest),
		},
		Status: v1alpha1.CoreDumpEndpointStatus{
			PodUIDs:    uidsOf(s.uids),
			Count:      s.count,
			Size:       s.size,
			StoredSize: s.stored,
			Newest:     &metav1.Time{Time: s.newest},
		},
	}
	for _, name := range slices.Sorted(maps.Keys(s.containers)) {
		e.Status.Containers = append(e.Status.Containers, *s.containers[name])
	}
	return e
}

// uidsOf orders pod UIDs by their last crash, the last one first.
func uidsOf(lastCrash map[string]time.Time) []string {
	return slices.SortedFunc(maps.Keys(lastCrash), func(a, b string) int {
		return cmp.Or(lastCrash[b].Compare(lastCrash[a]), cmp.Compare(a, b))
	})
}
