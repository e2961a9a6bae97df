// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"example.io/coredump/pkg/storage"
)

const noSuchUpload = "NoSuchUpload"

// kindOfCode are the codes of S3's errors whose kind their HTTP status does not tell.
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
var kindOfCode = map[string]error{
	"AccessDenied":                storage.ErrDenied,      // of one key of many
	noSuchUpload:                  storage.ErrUnavailable, // somebody removed it: a new one may do
	"BadDigest":                   storage.ErrCorrupt,
	"InvalidDigest":               storage.ErrCorrupt,
	"InvalidPart":                 storage.ErrCorrupt,
	"InvalidPartOrder":            storage.ErrCorrupt,
	"XAmzContentChecksumMismatch": storage.ErrCorrupt,
	"XAmzContentSHA256Mismatch":   storage.ErrCorrupt,
	"ExpiredToken":                storage.ErrDenied,
	"InvalidToken":                storage.ErrDenied,
	"TokenRefreshRequired":        storage.ErrDenied,
	"RequestTimeout":              storage.ErrUnavailable,
	"IncompleteBody":              storage.ErrUnavailable,
	"SlowDown":                    storage.ErrUnavailable,
	"InternalError":               storage.ErrUnavailable,
	"ServiceUnavailable":          storage.ErrUnavailable,
	"OperationAborted":            storage.ErrUnavailable,
	"ConditionalRequestConflict":  storage.ErrUnavailable,
	"EntityTooLarge":              storage.ErrInvalid,
}

// fail gives err the operation, the key and its kind.
func (b *Bucket) fail(ctx context.Context, op, key string, err error) error {
	if err == nil {
		return nil
	}
	var source sourceError
	if errors.As(err, &source) {
		return &storage.Error{Op: op, Key: key, Err: source.error}
	}
	kind := kindOf(err)
	if ctx.Err() != nil && kind == storage.ErrUnavailable {
		return &storage.Error{Op: op, Key: key, Err: ctx.Err()} // the store had no time to answer
	}
	if kind != nil && errors.Is(err, kind) {
		kind = nil // err says it
	}
	return &storage.Error{Op: op, Key: key, Kind: kind, Err: explain(err)}
}

// kindOf is the kind of err, nil where it has none.
func kindOf(err error) error {
	for _, kind := range []error{storage.ErrInvalid, storage.ErrExists, storage.ErrChanged, storage.ErrCorrupt, storage.ErrUnavailable} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	if kind := kindOfCode[code(err)]; kind != nil {
		return kind
	}
	switch s := status(err); {
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		return storage.ErrDenied
	case s == http.StatusNotFound:
		return storage.ErrNotFound
	case s == http.StatusTooManyRequests, s == http.StatusRequestTimeout, s == http.StatusConflict, s >= 500:
		return storage.ErrUnavailable // a conflict is one with what somebody else does at this moment
	case s >= 300:
		return nil // another region, for example: nothing that a caller could tell from other faults
	}
	var invalid smithy.InvalidParamsError
	switch {
	case errors.As(err, &invalid):
		return storage.ErrInvalid
	case strings.Contains(err.Error(), "checksum did not match"): // the SDK's type for this is not exported
		return storage.ErrCorrupt
	}
	// There is no answer: no connection, no credentials, a time-out, an answer that was cut or is no XML.
	return storage.ErrUnavailable
}

// status is the HTTP status that the store answered with, 0 where there is none. An answer of 200 may hold an error.
func status(err error) int {
	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) && resp.HTTPStatusCode() >= 300 {
		return resp.HTTPStatusCode()
	}
	return 0
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// explain puts err into a line: the SDK's own text repeats the operation and, as part of a URL, the key.
func explain(err error) error {
	var api smithy.APIError
	var urlErr *url.Error
	var operation *smithy.OperationError
	switch {
	case errors.As(err, &api):
		text := api.ErrorCode()
		if msg := api.ErrorMessage(); msg != "" {
			text += fmt.Sprintf(" (%.200s)", msg)
		}
		if s := status(err); s != 0 {
			text += fmt.Sprintf(", HTTP status %d", s)
		}
		return explained{text, err}
	case errors.As(err, &urlErr):
		return explained{urlErr.Err.Error(), err}
	case errors.As(err, &operation):
		return explained{operation.Err.Error(), err}
	}
	return err
}

type explained struct {
	text string
	error
}

func (e explained) Error() string { return e.text }
func (e explained) Unwrap() error { return e.error }
