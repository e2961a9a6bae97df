// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package tell

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	typedeventsv1 "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// Reason is the reason of an Event.
type Reason string

// Reasons of Events on a pod.
const (
	Captured       Reason = "CoreDumpCaptured"
	Truncated      Reason = "CoreDumpTruncated"
	Suppressed     Reason = "CoreDumpSuppressed"
	CopyFailed     Reason = "CoreDumpCopyFailed"
	InvalidSetting Reason = "CoreDumpInvalidSetting"
)

// Reasons of Events on the node.
const (
	// HostSettingsChanged: somebody else changed settings of ours, and they were put back.
	HostSettingsChanged Reason = "CoreDumpHostSettingsChanged"
	// HostSettingsRefused: the host has settings that are respected, so that nothing is captured.
	HostSettingsRefused Reason = "CoreDumpHostSettingsRefused"
	// SpoolFull: there is no room for dumps on the node.
	SpoolFull Reason = "CoreDumpSpoolFull"
	// StoreUnavailable: the store has been away for long.
	StoreUnavailable Reason = "CoreDumpStoreUnavailable"
)

// limit is how many Events there are at once, and how long it takes until there may be one more.
type limit struct {
	burst int
	every time.Duration
}

// limits are for each pod, or node, and reason. The pauses are longer than client-go keeps a series open (6 minutes, and up to 6 more), so that
// each Event says what is true now, and a series gathers what comes at once.
var limits = map[Reason]limit{
	Captured:            {5, 10 * time.Minute},
	Truncated:           {2, 15 * time.Minute},
	Suppressed:          {1, 15 * time.Minute},
	CopyFailed:          {1, 15 * time.Minute},
	InvalidSetting:      {2, time.Hour},
	HostSettingsChanged: {2, 15 * time.Minute},
	HostSettingsRefused: {1, time.Hour},
	SpoolFull:           {1, 15 * time.Minute},
	StoreUnavailable:    {1, time.Hour},
}

const (
	// controller is who reports.
	controller = "coredump.example.io/nodehandler"
	// limited bounds how many pods are remembered. Each that is forgotten may have a burst again, within perSecond.
	limited = 4096
	// perSecond and burst bound the Events of the whole node: client-go holds those that it cannot deliver for two minutes.
	perSecond, burst = 1, 100
	// linesPerSecond and linesBurst bound the lines in the log about dumps that were not taken.
	linesPerSecond, linesBurst = 5, 200
)

// Teller tells. Safe for concurrent use.
type Teller struct {
	recorder events.EventRecorder
	node     *corev1.ObjectReference
	clock    clock.PassiveClock
	all      *rate.Limiter
	each     *lru.Cache // of limitKey to *rate.Limiter
	// lines are those in the log about dumps that were not taken, unlogged counts how many of them were too many.
	lines    *rate.Limiter
	unlogged atomic.Int64
}

type limitKey struct {
	subject types.UID
	reason  Reason
}

// New makes a teller for the node of that name. Without a recorder (nil) there are no Events.
func New(recorder events.EventRecorder, node string, clk clock.PassiveClock) *Teller {
	return &Teller{
		recorder: recorder, clock: clk, all: rate.NewLimiter(perSecond, burst), each: lru.New(limited),
		lines: rate.NewLimiter(linesPerSecond, linesBurst),
		// The UID is what kubelet uses, and what kubectl describe node looks for. Without a namespace, the Event is in "default".
		node: &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: node, UID: types.UID(node)},
	}
}

// NewRecorder makes a recorder that delivers Events until ctx ends. What waits for delivery is lost then.
func NewRecorder(ctx context.Context, client typedeventsv1.EventsV1Interface) (events.EventRecorder, error) {
	b := events.NewBroadcaster(&countingSink{events.EventSinkImpl{Interface: client}})
	if err := b.StartRecordingToSinkWithContext(ctx); err != nil {
		return nil, fmt.Errorf("start recording events: %w", err)
	}
	context.AfterFunc(ctx, b.Shutdown)
	return b.NewRecorder(scheme.Scheme, controller), nil
}

// countingSink counts what is delivered.
type countingSink struct{ events.EventSinkImpl }

func (s *countingSink) Create(ctx context.Context, e *eventsv1.Event) (*eventsv1.Event, error) {
	created, err := s.EventSinkImpl.Create(ctx, e)
	return created, delivered(e, err)
}

func (s *countingSink) Patch(ctx context.Context, e *eventsv1.Event, data []byte) (*eventsv1.Event, error) {
	patched, err := s.EventSinkImpl.Patch(ctx, e, data)
	return patched, delivered(e, err)
}

func delivered(e *eventsv1.Event, err error) error {
	result := eventSent
	if err != nil {
		result = eventFailed
	}
	eventsTotal.WithLabelValues(e.Reason, result).Inc()
	return err
}

// pod is the object that an Event about a dump is on; nil where it is not known.
func (d *Dump) pod() *corev1.ObjectReference {
	if d.Namespace == "" || d.Pod == "" {
		return nil
	}
	ref := &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: d.Namespace, Name: d.Pod, UID: types.UID(d.PodUID)}
	if d.Container != "" {
		ref.FieldPath = "spec.containers{" + printable(d.Container, 63) + "}"
	}
	return ref
}

// object is the CoreDump. Events that are related to different objects are never joined to a series.
func (d *Dump) object() runtime.Object {
	if d.Name == "" {
		return nil
	}
	return &corev1.ObjectReference{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "CoreDump", Namespace: d.Namespace, Name: d.Name}
}

// event records an Event, a warning, if there have not been too many, and tells whether there were not.
func (t *Teller) event(on *corev1.ObjectReference, related runtime.Object, r Reason, action, note string) bool {
	if on == nil {
		return false
	}
	if !t.allow(on, r) {
		if t.recorder != nil {
			eventsTotal.WithLabelValues(string(r), eventDropped).Inc()
		}
		return false
	}
	if t.recorder != nil {
		t.recorder.Eventf(on, related, corev1.EventTypeWarning, string(r), action, "%s", printable(note, maxNote))
	}
	return true
}

func (t *Teller) allow(on *corev1.ObjectReference, r Reason) bool {
	subject := on.UID
	if subject == "" {
		subject = types.UID(on.Namespace + "/" + on.Name)
	}
	key, now := limitKey{subject, r}, t.clock.Now()
	l, known := t.each.Get(key)
	if !known {
		l = rate.NewLimiter(rate.Every(limits[r].every), limits[r].burst)
		t.each.Add(key, l)
	}
	return l.(*rate.Limiter).AllowN(now, 1) && t.all.AllowN(now, 1)
}
