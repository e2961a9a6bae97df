// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"context"
	"errors"
	"testing"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
)

func TestNobodyTakesTheSlotsOfOthers(t *testing.T) {
	s := New(3, 2)
	as := func(name string) context.Context {
		return request.WithUser(t.Context(), &user.DefaultInfo{Name: name})
	}
	take := func(name string, want error) func() {
		t.Helper()
		release, err := s.Take(as(name))
		if !errors.Is(err, want) {
			t.Fatalf("%s: %v, want %v", name, err, want)
		}
		return release
	}
	first := take("alice", nil)
	take("alice", nil)
	take("alice", ErrUser)
	bob := take("bob", nil)
	take("carol", ErrAll)
	first()
	take("alice", nil)
	take("alice", ErrUser)
	bob()
	if len(s.users) != 1 || s.running != 2 {
		t.Errorf("%d users, %d running", len(s.users), s.running)
	}
}
