// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package retention decides which dumps of a bucket go, and removes them. The decision is pure: an inventory of the
// bucket, the namespaces that live and the time give a plan. All state lies in the bucket.
//
// The time of a dump is that of the crash, which is in its key, but not later than when it was stored, by the store's
// clock: the time of a crash can come from a file that a tenant wrote, and none is kept for being from the future. Of what is
// left of a dump only when it was stored counts, as what crashed long ago may be on its way just now.
package retention

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Limits are the rules that may differ from namespace to namespace. A zero turns its rule off.
type Limits struct {
	// MaxAge is how long a dump is kept.
	MaxAge time.Duration
	// KeepLast is how many of the newest dumps of a container MaxAge spares. The other rules spare nothing.
	KeepLast int
	// MaxPerContainer is how many dumps of a container are kept, the newest.
	MaxPerContainer int
	// MaxBytes bounds the stored bytes of the namespace. The oldest dumps go first.
	MaxBytes int64
}

// Policy says what is kept. A zero turns its rule off.
type Policy struct {
	// Limits of the namespaces that have none of their own.
	Limits
	// Namespaces have limits of their own; they replace Limits as a whole. storage.UnknownNamespace is one here.
	Namespaces map[string]Limits
	// TotalBytes bounds the stored bytes of all dumps. The oldest go first.
	TotalBytes int64
	// OrphanGrace is how long a body or a context may be without its record, and a record without its body. It must be longer than
	// the longest upload: some stores date an object by the beginning of its upload, so that a body that has just
	// been completed and waits for its record can look as old as that.
	OrphanGrace time.Duration
	// UploadGrace is how long an upload may stay unfinished. It must be longer than the longest upload.
	UploadGrace time.Duration
	// GoneGrace is how long dumps outlive their namespace, counted from the last sign of it; see planner.gone.
	GoneGrace time.Duration
	// Cluster is the name of the cluster whose namespaces are known. Nothing is said about namespaces of other clusters
	// that share the bucket.
	Cluster string
}

func (p Policy) limits(namespace string) Limits {
	if l, ok := p.Namespaces[namespace]; ok {
		return l
	}
	return p.Limits
}

// Rule is the rule by which something goes.
type Rule string

// The rules, in the order in which they are applied: what an earlier one takes, a later one does not count. Only dumps that are
// larger than a whole budget go before all others.
const (
	RuleOrphan          Rule = "orphan"
	RuleMissingBody     Rule = "missing-body"
	RuleUnfinished      Rule = "unfinished-upload"
	RuleMaxAge          Rule = "max-age"
	RuleMaxPerContainer Rule = "max-per-container"
	RuleGoneNamespace   Rule = "gone-namespace"
	RuleNamespaceBytes  Rule = "max-bytes-per-namespace"
	RuleBytes           Rule = "max-bytes"
)

// Rules are all rules.
func Rules() []Rule {
	return []Rule{RuleOrphan, RuleMissingBody, RuleUnfinished, RuleMaxAge, RuleMaxPerContainer, RuleGoneNamespace, RuleNamespaceBytes, RuleBytes}
}

// Reason says in a few words why the rule takes something of the namespace.
func (p Policy) Reason(r Rule, namespace string) string {
	l := p.limits(namespace)
	switch r {
	case RuleOrphan:
		return "without a record, older than " + duration.HumanDuration(p.OrphanGrace)
	case RuleMissingBody:
		return "record without a body, older than " + duration.HumanDuration(p.OrphanGrace)
	case RuleUnfinished:
		return "unfinished upload, older than " + duration.HumanDuration(p.UploadGrace)
	case RuleGoneNamespace:
		return "namespace gone for more than " + duration.HumanDuration(p.GoneGrace)
	case RuleMaxAge:
		return "older than " + duration.HumanDuration(l.MaxAge)
	case RuleMaxPerContainer:
		return fmt.Sprintf("container has more than %d", l.MaxPerContainer)
	case RuleNamespaceBytes:
		return "namespace has more than " + humanize.IBytes(uint64(l.MaxBytes))
	case RuleBytes:
		return "all have more than " + humanize.IBytes(uint64(p.TotalBytes))
	}
	return string(r)
}
