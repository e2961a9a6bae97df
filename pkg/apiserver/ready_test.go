// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"testing"
	"time"

	"example.io/coredump/pkg/storage"
)

// pings is a bucket that can only be asked whether it is there.
type pings struct {
	storage.Bucket
	answer func() error
}

func (p pings) Ping(context.Context) error { return p.answer() }

func TestReadinessWaitsForTheStoreOnce(t *testing.T) {
	check := &storeCheck{}
	if check.ready(nil) == nil {
		t.Error("ready before the store was asked")
	}
	n := 0
	check.wait(t.Context(), pings{answer: func() error {
		if n++; n == 1 {
			return errors.New("not yet")
		}
		if check.ready(nil) == nil {
			t.Error("ready before the store answered")
		}
		return nil
	}}, time.Minute)
	if n != 2 || check.ready(nil) != nil {
		t.Errorf("after %d pings: %v", n, check.ready(nil))
	}
}

func TestReadinessDoesNotWaitForEver(t *testing.T) {
	check := &storeCheck{}
	check.wait(t.Context(), pings{answer: func() error { return errors.New("away") }}, time.Millisecond)
	if err := check.ready(nil); err != nil {
		t.Errorf("after the grace: %v", err)
	}
}
