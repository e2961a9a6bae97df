// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package watching

import (
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"

	"example.io/coredump/pkg/registry/revision"
)

// start is where a watch begins.
type start struct {
	// initial is true where the watch begins with what there is.
	initial bool
	// announced is true where the end of that is told.
	announced bool
	// bookmarks are welcome.
	bookmarks bool
	// since is true where it begins with what changed since the time at which the set had the fingerprint.
	since       bool
	at          time.Time
	fingerprint revision.Fingerprint
}

// startOf understands the options of a watch, which the API server has validated. Its errors are Statuses.
func startOf(opts *metainternalversion.ListOptions) (s start, err error) {
	if opts == nil {
		return start{initial: true}, nil
	}
	if opts.ShardSelector != "" {
		return s, apierrors.NewBadRequest("shardSelector is not supported by this API server")
	}
	s.bookmarks = opts.AllowWatchBookmarks
	none := opts.ResourceVersion == "" || opts.ResourceVersion == "0"
	if !none {
		ok := false
		if s.at, s.fingerprint, ok = revision.Parse(opts.ResourceVersion); !ok {
			return s, apierrors.NewBadRequest(fmt.Sprintf("resourceVersion %.40q is none of this API server", opts.ResourceVersion))
		}
	}
	switch send := opts.SendInitialEvents; {
	case send != nil && *send:
		s.initial, s.announced = true, s.bookmarks
	case send == nil && none:
		s.initial = true
	default:
		s.since = !none
	}
	return s, nil
}

// errExpired is what a client gets that has to list again.
func errExpired(why string) error {
	return apierrors.NewResourceExpired("too old resource version: " + why)
}
