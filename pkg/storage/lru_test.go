// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import "testing"

func TestWhatIsRememberedOfBodiesIsBounded(t *testing.T) {
	c := newLRU[bodyKey, body](10 * bodyOverhead)
	for i := range 1000 {
		c.add(bodyKey{size: int64(i)}, body{}, bodyOverhead)
		if c.size > c.limit || len(c.entries) != c.order.Len() {
			t.Fatalf("%d entries of %d bytes", len(c.entries), c.size)
		}
	}
	c.add(bodyKey{size: 999}, body{etag: "new"}, 5*bodyOverhead)
	if b, ok := c.get(bodyKey{size: 999}); !ok || b.etag != "new" {
		t.Errorf("%+v, %v", b, ok)
	}
	c.remove(bodyKey{size: 999})
	if _, ok := c.get(bodyKey{size: 999}); ok || c.size > 5*bodyOverhead {
		t.Errorf("what was removed is there; %d bytes", c.size)
	}
}
