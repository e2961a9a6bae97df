// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package judge decides what becomes of a crash before a byte of its dump is read: whose wishes count, and whether there have been enough
// dumps already. It knows nothing of Kubernetes but names; labels and annotations come as maps and are hostile. Whatever crashes,
// and however often, a judgement takes constant time, and what is remembered is bounded.
package judge

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// What a namespace (label) or a pod (annotation) may ask for.
const (
	// KeyCapture is "enabled" or "disabled".
	KeyCapture = "coredump.example.io/capture"
	// KeyMaxSize is the largest core that is taken whole, in bytes, such as 512Mi: see ParseSize.
	KeyMaxSize = "coredump.example.io/max-size"
	// KeyMaxPerHour is how many dumps of the workload are kept in an hour, from 1 on.
	KeyMaxPerHour = "coredump.example.io/max-per-hour"
)

// The values of KeyCapture.
const (
	Enabled  = "enabled"
	Disabled = "disabled"
)

// Places where a setting can be.
const (
	OnNamespace = "namespace"
	OnPod       = "pod"
)

// Invalid is a setting that means nothing. The admin's own value is in force in its place.
type Invalid struct {
	// Where is OnNamespace or OnPod.
	Where string
	// Key is the label or annotation.
	Key string
	// Problem says what is wrong and what is allowed, in printable ASCII of bounded length.
	Problem string
	// First is true where it has not been met lately, so that it can be told once and counted always.
	First bool
}

// wishes are what labels and annotations say, within the admin's limits.
type wishes struct {
	capture bool
	maxSize int64
	maxRate int
	invalid []Invalid
}

// read gives what is in force. Labels of the namespace come first, annotations of the pod win, unless the namespace
// wins: then it decides on capture where it says something, and its limits are those for its pods.
func (c *Config) read(labels, annotations map[string]string) wishes {
	w := wishes{capture: c.Capture, maxSize: c.MaxSize, maxRate: c.MaxPerHour}
	ns, pod := w.one(labels, OnNamespace, c), w.one(annotations, OnPod, c)
	first, second := ns, pod
	if c.NamespaceWins {
		first, second = pod, ns
	}
	for _, s := range []setting{first, second} {
		if s.capture != nil {
			w.capture = *s.capture
		}
	}
	w.maxSize = pick(c.MaxSize, ns.maxSize, pod.maxSize, c.NamespaceWins)
	w.maxRate = int(pick(int64(c.MaxPerHour), ns.maxRate, pod.maxRate, c.NamespaceWins))
	return w
}

// pick gives the limit in force; 0 means not said.
func pick(ceiling, ns, pod int64, namespaceWins bool) int64 {
	if ns > 0 && (pod == 0 || namespaceWins) {
		ceiling = min(ceiling, ns)
	}
	if pod > 0 {
		ceiling = min(ceiling, pod)
	}
	return ceiling
}

type setting struct {
	capture          *bool
	maxSize, maxRate int64
}

func (w *wishes) one(from map[string]string, where string, c *Config) (s setting) {
	bad := func(key, format string, args ...any) {
		w.invalid = append(w.invalid, Invalid{Where: where, Key: key, Problem: fmt.Sprintf(format, args...)})
	}
	if v, ok := from[KeyCapture]; ok {
		enabled := v == Enabled
		if !enabled && v != Disabled {
			bad(KeyCapture, "%s: must be %s or %s", quote(v), Enabled, Disabled)
		} else {
			s.capture = &enabled
		}
	}
	if v, ok := from[KeyMaxSize]; ok {
		if n, err := ParseSize(v); err != nil {
			bad(KeyMaxSize, "%v; %d bytes, the limit of this node, is in force", err, c.MaxSize)
		} else {
			s.maxSize = n
		}
	}
	if v, ok := from[KeyMaxPerHour]; ok {
		if n, err := number(v); err != nil || n < 1 {
			bad(KeyMaxPerHour, "%s: must be a number from 1 on; %d, the limit of this node, is in force", quote(v), c.MaxPerHour)
		} else {
			s.maxRate = min(n, math.MaxInt32)
		}
	}
	return s
}

// sizeUnits are the suffixes of sizes, as Kubernetes has them.
var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40},
	{"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}, {"", 1},
}

// ParseSize understands a positive whole number of bytes with one of the suffixes Ki, Mi, Gi, Ti, k, M, G, T or none. It is stricter than
// a Kubernetes quantity, whose exponents may cost a lot of work. Its error is printable and short, whatever s is.
func ParseSize(s string) (int64, error) {
	for _, u := range sizeUnits {
		digits, found := strings.CutSuffix(s, u.suffix)
		if !found {
			continue
		}
		n, err := number(digits)
		if err != nil || n < 1 {
			break
		}
		if n > math.MaxInt64/u.bytes {
			return math.MaxInt64, nil
		}
		return n * u.bytes, nil
	}
	return 0, fmt.Errorf("%s: must be a positive number of bytes such as 512Mi", quote(s))
}

// number understands a plain decimal number, without a sign.
func number(s string) (int64, error) {
	if len(s) == 0 || len(s) > 18 || strings.Trim(s, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseInt(s, 10, 64)
}

// quote shows foreign text: printable and short.
func quote(s string) string {
	const most = 64
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "..."
	}
	return strconv.QuoteToASCII(s)
}
