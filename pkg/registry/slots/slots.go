// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package slots bounds how many requests of a kind run at a time, in all and for each user: nobody keeps the others from theirs.
package slots

import (
	"context"
	"errors"
	"math"
	"sync"

	"k8s.io/apiserver/pkg/endpoints/request"
)

// Why there is no slot.
var (
	ErrUser = errors.New("too many of the user")
	ErrAll  = errors.New("too many in all")
)

// Slots are some number of slots. Safe for concurrent use.
type Slots struct {
	limit, perUser int

	mu      sync.Mutex
	running int
	users   map[string]int // none that is 0
}

// Unbounded is a limit that is none.
const Unbounded = math.MaxInt

// New makes slots, limit in all and perUser for each user.
func New(limit, perUser int) *Slots {
	return &Slots{limit: limit, perUser: perUser, users: map[string]int{}}
}

// Take gives a slot to the user of ctx, which is to be released once, or ErrUser or ErrAll.
func (s *Slots) Take(ctx context.Context) (release func(), err error) {
	user := ""
	if u, ok := request.UserFrom(ctx); ok {
		user = u.GetName()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.users[user] >= s.perUser:
		return nil, ErrUser
	case s.running >= s.limit:
		return nil, ErrAll
	}
	s.running++
	s.users[user]++
	return func() { s.release(user) }, nil
}

func (s *Slots) release(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	if s.users[user]--; s.users[user] == 0 {
		delete(s.users, user)
	}
}
