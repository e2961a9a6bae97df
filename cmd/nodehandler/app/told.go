// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"time"

	"k8s.io/klog/v2"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/corefile"
	"example.io/coredump/pkg/identity"
	"example.io/coredump/pkg/judge"
	"example.io/coredump/pkg/podcopy"
	"example.io/coredump/pkg/spool"
	"example.io/coredump/pkg/spooled"
	"example.io/coredump/pkg/tell"
	"example.io/coredump/pkg/witness"
)

// told passes on what a witness tells. It implements witness.Teller.
type told struct{ *tell.Teller }

// Judged tells of a verdict.
func (t told) Judged(ctx context.Context, mode string, who identity.Who, d *judge.Decision, took time.Duration) {
	t.Teller.Judged(took)
	if len(d.Invalid) > 0 {
		t.Invalid(ctx, dumpOf(who), d.Invalid)
	}
	if d.Verdict.Action == capture.Forward {
		t.Forwarded(ctx, mode, tell.ForwardedOptedOut)
	}
}

// Copied tells of a copy that a pod wanted.
func (t told) Copied(ctx context.Context, who identity.Who, path string, err error) {
	if err == nil {
		t.Teller.Copied(ctx, dumpOf(who), path, "", "")
		return
	}
	t.Teller.Copied(ctx, dumpOf(who), path, podcopy.Reason(err), err.Error())
}

// dumpOf is what is told of whose a dump is.
func dumpOf(who identity.Who) *tell.Dump {
	if !who.Verified {
		return &tell.Dump{}
	}
	return &tell.Dump{Namespace: who.Namespace, Pod: who.Pod, PodUID: who.PodUID, Container: who.Container}
}

// ended tells of a dump whose delivery has ended, and counts those that nobody was asked about.
func (k *kernel) ended(ctx context.Context, e *spooled.Ended) {
	d := dumpOf(e.Who)
	d.Name, d.Mode, d.Entry, d.Outcome = e.Name, e.Meta.Mode, e.Entry, *e.Outcome
	d.Signal, d.Executable = corefile.SignalName(int(e.Meta.Signal)), e.Meta.Exe
	subject := witness.Subject(e.Who)
	if !e.Outcome.Answered && e.Outcome.Suppressed != spool.ReasonOptedOut {
		k.judge.Count(subject, *e.Outcome)
	}
	counts := k.judge.Counts(subject.Workload())
	d.Kept, d.SuppressedCount, d.Since = counts.Kept, counts.Suppressed, counts.Since
	k.teller.Finished(ctx, d)
}

func (k *kernel) salvaged(ctx context.Context, s spool.Salvaged) {
	klog.FromContext(ctx).Info("[coredump] Finished what killed takers of dumps had left", "finished", s.Finished, "empty", s.Removed, "aside", s.Aside)
}
