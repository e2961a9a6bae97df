// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package download

import (
	"sync"

	"example.io/coredump/pkg/registry/status"
)

// slots bounds how many downloads run, in all and for each user: nobody keeps the others from theirs. Safe for concurrent use.
type slots struct {
	limit, perUser int

	mu      sync.Mutex
	running int
	users   map[string]int // none that is 0
}

// take gives a slot to the user, or a Status where there is none. The caller gives it back.
func (s *slots) take(user string) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.users[user] >= s.perUser:
		return nil, status.TooManyDownloadsOfUser(s.perUser)
	case s.running >= s.limit:
		return nil, status.TooManyDownloads(s.limit)
	}
	s.running++
	s.users[user]++
	inflight.Inc()
	return func() { s.release(user) }, nil
}

func (s *slots) release(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	inflight.Dec()
	s.running--
	if s.users[user]--; s.users[user] == 0 {
		delete(s.users, user)
	}
}
