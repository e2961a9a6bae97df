// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package tell

import (
	"context"
	"slices"
	"strconv"
	"time"

	"k8s.io/klog/v2"

	"example.io/coredump/pkg/judge"
	"example.io/coredump/pkg/podcopy"
	"example.io/coredump/pkg/spool"
)

// actions of Events: what was done.
const (
	actionCapture   = "Capture"
	actionSuppress  = "Suppress"
	actionCopy      = "Copy"
	actionConfigure = "Configure"
	actionStore     = "Store"
)

// Finished tells how the capture of a dump ended: it was kept, cut, or not taken. It is called once for each dump.
func (t *Teller) Finished(ctx context.Context, d *Dump) {
	o := &d.Outcome
	ns := namespaces.of(d.Namespace)
	log := klog.FromContext(ctx).WithValues("namespace", printable(d.Namespace, 63), "pod", printable(d.Pod, 253), "container", printable(d.Container, 63),
		"exe", printable(d.Executable, 128), "signal", printable(d.Signal, 32), "mode", d.Mode, "entry", d.Entry, "name", printable(d.Name, 400))
	observeHold(d.Mode, o)
	if o.Suppressed != "" {
		reason := known(o.Suppressed, suppressedReasons)
		captures(d.Mode, resultSuppressed)
		suppressedTotal.WithLabelValues(ns, reason).Inc()
		if o.Suppressed != spool.ReasonOptedOut { // who does not want dumps does not want to be told
			t.event(d.pod(), nil, Suppressed, actionSuppress, d.suppressed())
		}
		if t.lines.AllowN(t.clock.Now(), 1) {
			log.Info("[coredump] Suppressed", "reason", reason, "kept", d.Kept, "suppressed", d.SuppressedCount, "unlogged", t.unlogged.Swap(0))
		} else {
			t.unlogged.Add(1)
		}
		return
	}
	result, reason := resultKept, ""
	// An Event of type Warning, as BackOff is, which kubelet says of the same container.
	t.event(d.pod(), d.object(), Captured, actionCapture, d.captured())
	if o.Truncated != "" {
		result, reason = resultTruncated, known(o.Truncated, truncatedReasons)
		truncatedTotal.WithLabelValues(ns, reason).Inc()
		t.event(d.pod(), d.object(), Truncated, actionCapture, d.truncated())
	}
	captures(d.Mode, result)
	capturedTotal.WithLabelValues(ns).Inc()
	log.Info("[coredump] Captured", "bytes", o.Size, "promised", o.PromisedSize, "truncated", reason,
		"hold", time.Duration(o.HoldMicros)*time.Microsecond, "answered", o.Answered, "problem", printable(o.Error, 256))
}

// Forwarded tells that a crash went to the handler that the host had before. Why it did is ForwardedHost or ForwardedOptedOut.
func (t *Teller) Forwarded(ctx context.Context, mode, why string) {
	captures(mode, resultForwarded)
	forwardedTotal.WithLabelValues(why).Inc()
	klog.FromContext(ctx).V(2).Info("[coredump] Forwarded to the handler of the host", "mode", mode, "why", why)
}

// Failed tells that the capture of a dump failed, which is an error of ours.
func (t *Teller) Failed(ctx context.Context, mode string, err error) {
	captures(mode, resultFailed)
	if !t.lines.AllowN(t.clock.Now(), 1) {
		t.unlogged.Add(1)
		return
	}
	klog.FromContext(ctx).Error(err, "[coredump] Could not capture", "mode", mode)
}

// Lost counts dumps of whoever, for which there was no room for even an entry.
func (t *Teller) Lost(ctx context.Context, n uint64) {
	if n == 0 {
		return
	}
	capturesTotal.WithLabelValues(Modes[0], resultSuppressed).Add(float64(n))
	suppressedTotal.WithLabelValues(unknown, string(spool.ReasonNoSpace)).Add(float64(n))
	t.SpoolFull(ctx, strconv.FormatUint(n, 10)+" dumps are lost without a trace")
}

// Judged observes how long it took to answer a request.
func (t *Teller) Judged(took time.Duration) { verdictSeconds.Observe(took.Seconds()) }

// Copied tells how a copy into a container ended: reason is "" where it is there, or one of podcopy.Reasons, and problem says more.
func (t *Teller) Copied(ctx context.Context, d *Dump, path, reason, problem string) {
	log := klog.FromContext(ctx).WithValues("namespace", printable(d.Namespace, 63), "pod", printable(d.Pod, 253), "path", printable(path, 512))
	if reason == "" {
		copiesTotal.WithLabelValues(resultCopied).Inc()
		log.Info("[coredump] Copied into the container")
		return
	}
	if !slices.Contains(podcopy.Reasons, reason) {
		reason = podcopy.ReasonFailed
	}
	copiesTotal.WithLabelValues(reason).Inc()
	t.event(d.pod(), nil, CopyFailed, actionCopy, note(d.crash()+": no copy was put into the container: "+printable(problem, 700)))
	log.Info("[coredump] Could not copy into the container", "reason", reason, "problem", printable(problem, 700))
}

// Invalid tells about settings of a namespace or a pod that mean nothing, each once, and counts them always.
func (t *Teller) Invalid(ctx context.Context, d *Dump, settings []judge.Invalid) {
	for _, s := range settings {
		invalidTotal.WithLabelValues(s.Where).Inc()
		if !s.First {
			continue
		}
		t.event(d.pod(), nil, InvalidSetting, actionConfigure, note("The setting "+s.Key+" of the "+s.Where+" is ignored: "+s.Problem))
		klog.FromContext(ctx).Info("[coredump] Ignored a setting", "namespace", printable(d.Namespace, 63), "pod", printable(d.Pod, 253),
			"where", s.Where, "key", s.Key, "problem", s.Problem)
	}
}

// SettingsHealed tells that somebody else had changed a setting of the host, such as core_pattern, and that it was put back.
func (t *Teller) SettingsHealed(ctx context.Context, setting, what string) {
	driftTotal.WithLabelValues(printable(setting, 32)).Inc()
	t.onNode(ctx, HostSettingsChanged, actionConfigure, "Settings of the host for core dumps were changed by somebody else and have been put back: "+what)
}

// SettingsRefused tells that the host has settings which are respected, so that nothing is captured.
func (t *Teller) SettingsRefused(ctx context.Context, what string) {
	t.onNode(ctx, HostSettingsRefused, actionConfigure, "Core dumps are not captured on this node: "+what)
}

// SpoolFull tells that there is no room for dumps on the node.
func (t *Teller) SpoolFull(ctx context.Context, what string) {
	t.onNode(ctx, SpoolFull, actionCapture, "Core dumps are cut or suppressed on this node for lack of room: "+what)
}

// StoreUnavailable tells that the store has been away for long.
func (t *Teller) StoreUnavailable(ctx context.Context, what string) {
	t.onNode(ctx, StoreUnavailable, actionStore, "Core dumps wait on this node, for the store cannot be reached: "+what)
}

// onNode may be called as often as there is trouble: what is too much is left out of the log, too.
func (t *Teller) onNode(ctx context.Context, r Reason, action, text string) {
	text = printable(text, maxNote)
	if !t.event(t.node, nil, r, action, text) {
		return
	}
	klog.FromContext(ctx).Info("[coredump] Trouble with the host", "reason", r, "problem", text)
}
