// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"errors"
	"fmt"
)

// The kinds of errors of this package. Every error that it returns and that is none of them is either
// the caller's own (a reader that failed, a context that ended) or a fault nobody foresaw.
var (
	// ErrNotFound is returned for a key under which there is nothing, and for a bucket that does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists is returned by Put with IfAbsent where there is an object already.
	ErrExists = errors.New("exists already")
	// ErrChanged is returned by Open where the object has another ETag than asked for.
	ErrChanged = errors.New("changed meanwhile")
	// ErrCorrupt is returned where bytes are not what they were or ought to be: a checksum that does not fit, a record that
	// cannot be understood. Reading again does not help; writing again may.
	ErrCorrupt = errors.New("corrupt")
	// ErrDenied is returned where the store does not let us do it.
	ErrDenied = errors.New("access denied")
	// ErrUnavailable is returned where the store is away, overloaded or too slow. Trying again later may help.
	ErrUnavailable = errors.New("store unavailable")
	// ErrInvalid is returned for a name, a key or an option that cannot be right.
	ErrInvalid = errors.New("invalid")
)

// Error is an error of the store with the operation and the key. Kind is one of the sentinels above, or nil.
type Error struct {
	Op   string
	Key  string
	Kind error
	Err  error
}

func (e *Error) Error() string {
	switch {
	case e.Kind == nil:
		return fmt.Sprintf("%s %s: %v", e.Op, e.Key, e.Err)
	case e.Err == nil:
		return fmt.Sprintf("%s %s: %v", e.Op, e.Key, e.Kind)
	}
	return fmt.Sprintf("%s %s: %v: %v", e.Op, e.Key, e.Kind, e.Err)
}

// Unwrap gives both the kind and the cause to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	var errs []error
	if e.Kind != nil {
		errs = append(errs, e.Kind)
	}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}
