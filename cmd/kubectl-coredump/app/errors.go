// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/fetch"
)

// The exit codes. They are part of the interface; --help lists them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitForbidden   = 3
	exitNotFound    = 4
	exitIncomplete  = 5
	exitWrong       = 6
	exitNoRoom      = 7
	exitInterrupted = 130
)

// usageError is a command line that cannot be understood.
type usageError struct{ error }

func usage(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// tell writes what went wrong, and gives the exit code. ran says that the command line was understood.
func (a *App) tell(ctx context.Context, err error, ran bool) int {
	if err == nil {
		return exitDone
	}
	code := exitCode(ctx, err, ran)
	text := message(err)
	switch code {
	case exitInterrupted:
		text = "interrupted"
	case exitUsage:
		text += "\nSee kubectl coredump --help."
	}
	if errors.As(err, new(*debuggerEnded)) {
		return code // it has said why
	}
	fmt.Fprintf(a.ErrOut, "error: %s\n", text)
	return code
}

func exitCode(ctx context.Context, err error, ran bool) int {
	var ended *debuggerEnded
	var missing *missingRight
	var status *fetch.StatusError
	code := int32(0)
	if s := apierrors.APIStatus(nil); errors.As(err, &s) {
		code = s.Status().Code
	}
	if errors.As(err, &status) {
		code = int32(status.Code)
	}
	switch {
	case errors.As(err, &ended):
		return ended.code
	case ctx.Err() != nil:
		return exitInterrupted
	case !ran, errors.As(err, new(*usageError)):
		return exitUsage
	case errors.As(err, &missing), code == 401, code == 403:
		return exitForbidden
	case errors.Is(err, errNotFound), code == 404:
		return exitNotFound
	case errors.Is(err, fetch.ErrWrong), errors.Is(err, fetch.ErrChanged):
		return exitWrong
	case errors.Is(err, fetch.ErrNoRoom):
		return exitNoRoom
	case errors.Is(err, fetch.ErrIncomplete), code == 429, code == 503:
		return exitIncomplete
	}
	return exitFailed
}

// message is the error in words that are safe for a terminal: most of it may come from a server.
func message(err error) string {
	text := err.Error()
	var status *fetch.StatusError
	if errors.As(err, &status) {
		var said metav1.Status
		if json.Unmarshal(status.Body, &said) == nil && said.Message != "" {
			text = strings.Replace(text, status.Error(), said.Message, 1)
		}
	}
	return lines(text, 4000)
}

// errNotFound is the kind of error where nothing fits what was asked for.
var errNotFound = errors.New("not found")
