// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package coredump

import (
	"context"
	"errors"
	"runtime"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

func TestListsHaveRoomTogether(t *testing.T) {
	r := &room{limit: 100 * aPage}
	first, end := context.WithCancel(t.Context())
	a, b := r.list(first), r.list(t.Context())
	for range 6 {
		if err := a.take(10 * aPage); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.take(50 * aPage); !apierrors.IsTooManyRequests(err) {
		t.Errorf("110 of 100 MiB: %v", err)
	}
	if err := b.take(40 * aPage); err != nil {
		t.Errorf("100 of 100 MiB: %v", err)
	}
	pages, endPages := context.WithCancel(t.Context())
	for range forPages / aPage {
		c := r.list(pages)
		for range 500 {
			if err := c.take(aPage / 500); err != nil {
				t.Fatalf("a page: %v", err)
			}
		}
		if err := c.take(aPage); !apierrors.IsTooManyRequests(err) {
			t.Errorf("more than a page: %v", err)
		}
	}
	if err := r.list(pages).take(aPage); !apierrors.IsTooManyRequests(err) {
		t.Errorf("a page more than there is room for: %v", err)
	}
	endPages()
	if err := a.take(50 * aPage); !apierrors.IsRequestEntityTooLargeError(err) {
		t.Errorf("one list of 110 MiB: %v", err)
	}
	end()
	for b.take(20*aPage) != nil && t.Context().Err() == nil { // what runs after the end of a context does so by itself
		runtime.Gosched()
	}
	if err := a.take(1 * aPage); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that has ended takes more: %v", err)
	}
}
