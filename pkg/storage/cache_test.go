// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"fmt"
	"testing"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

func TestTheCacheIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	const records = 10
	c := newRecordCache(records * (1000 + cacheOverhead))
	object := func(i int) Object { return Object{Key: fmt.Sprint(i), ETag: "e"} }
	for i := range 1000 {
		rec := &v1alpha1.CoreDump{}
		rec.Spec.PodName = fmt.Sprint(i)
		c.add(object(i), rec, 1000)
		c.add(object(i), rec, 1000) // again makes no difference
		if c.get(object(0)) == nil {
			t.Fatalf("after %d, the one that is always used is gone", i)
		}
		if c.size > c.limit || len(c.entries) != c.order.Len() || len(c.entries) > records {
			t.Fatalf("there are %d records of %d bytes, the limit is %d", len(c.entries), c.size, c.limit)
		}
	}
	if got := c.get(object(999)); got == nil || got.Spec.PodName != "999" {
		t.Errorf("the last: got %+v", got)
	}
	if c.get(object(500)) != nil {
		t.Error("one that was not used for long is still there")
	}
	if c.get(Object{Key: "999", ETag: "other"}) != nil {
		t.Error("another version of the object has the same record")
	}
	c.add(Object{Key: "none"}, &v1alpha1.CoreDump{}, 1)
	if c.get(Object{Key: "none"}) != nil {
		t.Error("an object without an ETag is kept")
	}
	c.add(object(2000), &v1alpha1.CoreDump{}, 1<<30)
	if c.get(object(2000)) != nil || c.size > c.limit {
		t.Errorf("one that is larger than the cache is kept; %d bytes", c.size)
	}
}
