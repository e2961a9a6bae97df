// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Kinds of errors. What is none of them, and no *StatusError, is a local failure.
var (
	// ErrWrong means that what the server has is not what the record says. What had been fetched of it is removed.
	ErrWrong = errors.New("not what the record says")
	// ErrChanged means that the object became another one while it was fetched. What had been fetched of it is removed.
	ErrChanged = errors.New("the object has changed on the server")
	// ErrIncomplete means that the server could not be reached, or broke off again and again, for Options.GiveUp. The same call goes on later.
	ErrIncomplete = errors.New("incomplete")
	// ErrNoRoom means that the file system is full, or would be. What has been fetched is kept, and the same call goes on later.
	ErrNoRoom = errors.New("no room")
	// ErrBusy means that another process fetches the same into the same directory.
	ErrBusy = errors.New("somebody else is at it")
	// ErrExists means that there is another file of that name.
	ErrExists = errors.New("there is another file of that name")
)

// errNoRanges means that the server sends the whole where a range was asked for.
var errNoRanges = errors.New("the server has no ranges")

// StatusError is an answer that is neither 200 nor 206.
type StatusError struct {
	// Code is the HTTP status.
	Code int
	// RetryAfter is when the server wants to be asked again; 0 where it does not say.
	RetryAfter time.Duration
	// Body is the beginning of what it said, not more than 4 KiB. It is the server's: not safe for a terminal.
	Body []byte
}

// Error says the status. The body is left to whoever understands it.
func (e *StatusError) Error() string {
	return fmt.Sprintf("the server answers %d %s", e.Code, http.StatusText(e.Code))
}

// refusal tells whether the server refuses rather than fails. Right after a restart a server may refuse what it will allow
// once it knows its rules again, so refusals are final only while nothing has been fetched, or when they last.
func (e *StatusError) refusal() bool {
	return e.Code >= 400 && e.Code < 500 && e.Code != http.StatusTooManyRequests && e.Code != http.StatusRequestTimeout
}
