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
	r := &room{limit: 100}
	first, end := context.WithCancel(t.Context())
	a, b := r.list(first), r.list(t.Context())
	for range 6 {
		if err := a.take(10); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.take(50); !apierrors.IsTooManyRequests(err) {
		t.Errorf("110 of 100 bytes: %v", err)
	}
	if err := b.take(40); err != nil {
		t.Errorf("100 of 100 bytes: %v", err)
	}
	if err := a.take(50); !apierrors.IsRequestEntityTooLargeError(err) {
		t.Errorf("one list of 110: %v", err)
	}
	end()
	for b.take(20) != nil && t.Context().Err() == nil { // what runs after the end of a context does so by itself
		runtime.Gosched()
	}
	if err := a.take(1); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that has ended takes more: %v", err)
	}
}
