// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package coredump

import (
	"context"
	"fmt"
	"sync"

	"example.io/coredump/pkg/registry/status"
)

// maxListed bounds the records of all lists that are being answered, as they are in the bucket, in bytes. In memory they take some three times that, as
// objects and as the answer. It is more than a hundred thousand dumps have, in one list without a limit.
const maxListed = 128 << 20

// Lists of at most aPage bytes, as the pages of 500 that kubectl asks for have, have room of their own beside the others, forPages bytes of it: who lists without a limit
// does not keep everybody else from it.
const (
	aPage    = 1 << 20
	forPages = 8 << 20
)

// room is the memory that lists have together. Safe for concurrent use.
type room struct {
	limit int64

	mu    sync.Mutex
	taken int64 // bytes
}

// list takes room for a list, as much as its records need, until its request ends.
func (r *room) list(ctx context.Context) *listRoom {
	l := &listRoom{room: r}
	context.AfterFunc(ctx, l.leave)
	return l
}

// listRoom is what one list has taken.
type listRoom struct {
	room  *room
	taken int64 // by the mutex of room
	left  bool
}

// take takes n bytes more. The error is a Status: it is too much at present, or for a single list at all.
func (l *listRoom) take(n int64) error {
	r := l.room
	r.mu.Lock()
	defer r.mu.Unlock()
	limit := r.limit
	if l.taken+n <= aPage {
		limit += forPages
	}
	switch {
	case l.left: // the request has ended, and nothing is sent
		return context.Canceled
	case l.taken+n > r.limit:
		return status.TooLarge(fmt.Sprintf("the list has more than %d MiB; ask for it in pages, with the parameter limit", r.limit>>20))
	case r.taken+n > limit:
		return status.TooManyLists(r.limit)
	}
	l.taken += n
	r.taken += n
	return nil
}

func (l *listRoom) leave() {
	l.room.mu.Lock()
	defer l.room.mu.Unlock()
	l.room.taken -= l.taken
	l.taken, l.left = 0, true
}
