// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package status turns errors into API Statuses. It is the only place that does.
package status

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/access"
	"example.io/coredump/pkg/storage"
)

// Clients of Kubernetes try again up to ten times after a Retry-After, so these are short: a user waits ten times as long
// until kubectl says what is wrong.
const (
	// retryStore is after how many seconds to come back when the store or kube-apiserver is away.
	retryStore = 1
	// retrySlot is after how many seconds to come back when there are too many downloads or watches.
	retrySlot = 5
)

// Of gives the Status for what went wrong with the object of the resource (name is empty for lists). An error that is a Status
// already stays as it is. Errors of the store that say something about the store and not about the request are logged
// here, and not told to the user in full.
func Of(ctx context.Context, err error, resource schema.GroupResource, name string) error {
	undecided := errors.Is(err, access.ErrUndecided)
	var api apierrors.APIStatus
	switch {
	case err == nil:
		return nil
	case errors.As(err, &api) && !undecided: // what kube-apiserver said to us is not what we say to the user
		return err
	case errors.Is(err, storage.ErrNotFound), errors.Is(err, storage.ErrInvalid):
		// What cannot be a name is the name of nothing.
		return apierrors.NewNotFound(resource, name)
	case errors.Is(err, context.Canceled):
		return apierrors.NewTimeoutError("the request was cancelled", 0)
	case errors.Is(err, context.DeadlineExceeded):
		return apierrors.NewTimeoutError("the request took too long; narrow it, or page with limit", 0)
	}
	klog.FromContext(ctx).Error(err, "Request failed", "resource", resource.String(), "name", name)
	switch {
	case undecided:
		return unavailable("kube-apiserver cannot be asked who may see this; try again later")
	case errors.Is(err, storage.ErrCorrupt):
		return corrupt(err)
	case errors.Is(err, storage.ErrChanged):
		return unavailable("the stored object has just become another one; try again")
	case errors.Is(err, storage.ErrUnavailable):
		return unavailable("the object store is not available; try again later")
	case errors.Is(err, storage.ErrDenied):
		return apierrors.NewInternalError(errors.New("the object store refuses access to the coredump API server"))
	}
	return apierrors.NewInternalError(errors.New("unexpected; the log of the coredump API server has more"))
}

// corrupt has a cause, as other errors of the code pass and this one does not.
func corrupt(err error) error {
	internal := apierrors.NewInternalError(err)
	internal.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: v1alpha1.CauseCorrupt, Message: err.Error()}}
	return internal
}

func unavailable(message string) error {
	err := apierrors.NewServiceUnavailable(message)
	err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: retryStore}
	return err
}

// TooManyDownloads is what a download gets while limit others run.
func TooManyDownloads(limit int) error {
	return apierrors.NewTooManyRequests(fmt.Sprintf("%d downloads are running, which is the limit; try again later", limit), retrySlot)
}

// TooManyDownloadsOfUser is what a download gets while limit others of the same user run.
func TooManyDownloadsOfUser(limit int) error {
	return apierrors.NewTooManyRequests(fmt.Sprintf("%d of your downloads are running, which is the limit for a user; try again later", limit), retrySlot)
}

// TooManyWatchesOfUser is what a watch gets while limit others of the same user are open.
func TooManyWatchesOfUser(limit int) error {
	return apierrors.NewTooManyRequests(fmt.Sprintf("%d of your watches are open, which is the limit for a user; watch a namespace in place of its pods", limit), retrySlot)
}

// TooManyLists is what a list gets while others have taken all of the bytes that lists may have.
func TooManyLists(limit int64) error {
	return apierrors.NewTooManyRequests(fmt.Sprintf("lists of %d MiB are being answered, which is the limit; try again later, or ask for it in pages, with the parameter limit", limit>>20), retrySlot)
}

// TooLarge is a 413.
func TooLarge(message string) error { return apierrors.NewRequestEntityTooLargeError(message) }

// PreconditionFailed is a 412.
func PreconditionFailed(message string) error {
	return failure(http.StatusPreconditionFailed, "PreconditionFailed", message)
}

// RangeNotSatisfiable is a 416.
func RangeNotSatisfiable(message string) error {
	return failure(http.StatusRequestedRangeNotSatisfiable, "RangeNotSatisfiable", message)
}

// failure is a Status for which Kubernetes has no reason of its own.
func failure(code int32, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}}
}

// NotFound is a 404 that says what there is instead.
func NotFound(resource schema.GroupResource, name, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusNotFound,
		Reason:  metav1.StatusReasonNotFound,
		Details: &metav1.StatusDetails{Group: resource.Group, Kind: resource.Resource, Name: name},
		Message: message,
	}}
}
