// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package download

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"example.io/coredump/pkg/storage"
)

// Query is what the parameters of a request say. Zero values mean that the parameter was not given.
type Query struct {
	Format Format
	// Container and UID (of the pod) select the dumps that have them.
	Container, UID string
	// Since selects the dumps of crashes at that time or later.
	Since time.Time
	// Latest selects that many, the newest.
	Latest int
}

// Params names the parameters that a resource understands besides format.
type Params []string

// The parameters besides format.
const (
	ParamContainer = "container"
	ParamUID       = "uid"
	ParamSince     = "since"
	ParamLatest    = "latest"
)

// paramTimeout is sent by clients of Kubernetes that were started with --request-timeout. It is theirs and
// kube-apiserver's; a download has no deadline here.
const paramTimeout = "timeout"

var parsers = map[string]func(q *Query, value string, now time.Time) (allowed string, ok bool){
	"format": func(q *Query, value string, _ time.Time) (string, bool) {
		f, ok := formatNamed(value)
		q.Format = f
		return "one of " + formatNames(), ok
	},
	ParamContainer: func(q *Query, value string, _ time.Time) (string, bool) {
		q.Container = value
		return "the name of a container, a DNS label of at most 63 characters", storage.ValidContainer(value)
	},
	ParamUID: func(q *Query, value string, _ time.Time) (string, bool) {
		q.UID = value
		return "the UID of a pod, at most 64 letters, digits and dashes", validUID(value)
	},
	ParamSince: func(q *Query, value string, now time.Time) (string, bool) {
		t, err := time.Parse(time.RFC3339, value)
		if d, derr := time.ParseDuration(value); derr == nil && d > 0 {
			t, err = now.Add(-d), nil
		}
		q.Since = t
		return "a time like 2026-01-02T15:04:05Z (RFC 3339) or a time span back from now like 90m or 24h", err == nil
	},
	ParamLatest: func(q *Query, value string, _ time.Time) (string, bool) {
		n, err := strconv.Atoi(value)
		q.Latest = n
		return fmt.Sprintf("a number from 1 to %d", maxDumps), err == nil && n >= 1 && n <= maxDumps
	},
}

// ParseQuery understands the raw query of a request and its header Accept, which counts where no format is given. Whatever is unknown,
// repeated or wrong is an error, a Status that names it and says what is allowed.
func ParseQuery(rawQuery, accept string, params Params, now time.Time) (Query, error) {
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return Query{}, badRequest("the query cannot be understood: %v", err)
	}
	q := Query{Format: formatAccepted(accept)}
	allowed := append([]string{"format"}, params...)
	slices.Sort(allowed)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if name == paramTimeout {
			continue
		}
		if !slices.Contains(allowed, name) {
			return Query{}, badRequest("unknown parameter %.40q: allowed are %s", name, strings.Join(allowed, ", "))
		}
		if n := len(values[name]); n != 1 {
			return Query{}, badRequest("parameter %s is given %d times: it must be given once", name, n)
		}
		value := values[name][0]
		if must, ok := parsers[name](&q, value, now); !ok {
			return Query{}, badRequest("parameter %s is %.80q: it must be %s", name, value, must)
		}
	}
	return q, nil
}

func badRequest(format string, args ...any) error {
	return apierrors.NewBadRequest(fmt.Sprintf(format, args...))
}

func validUID(s string) bool {
	strange := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-')
	}
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, strange)
}
