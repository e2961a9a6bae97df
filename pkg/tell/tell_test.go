// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package tell

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/quick"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/component-base/metrics/testutil"
	clocktesting "k8s.io/utils/clock/testing"

	"example.io/coredump/pkg/judge"
	"example.io/coredump/pkg/spool"
)

func TestMain(m *testing.M) {
	RegisterMetrics()
	m.Run()
}

var start = time.Unix(1_790_000_000, 0)

type event struct {
	on, related          *corev1.ObjectReference
	kind, reason, action string
	note                 string
}

// recorder keeps Events.
type recorder struct {
	mu     sync.Mutex
	events []event
}

func (r *recorder) Eventf(regarding, related runtime.Object, kind, reason, action, note string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := event{kind: kind, reason: reason, action: action, note: fmt.Sprintf(note, args...)}
	e.on = regarding.(*corev1.ObjectReference)
	if related != nil {
		e.related = related.(*corev1.ObjectReference)
	}
	r.events = append(r.events, e)
}

func (r *recorder) take() []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.events
	r.events = nil
	return e
}

func newTeller() (*Teller, *recorder, *clocktesting.FakeClock) {
	r, clk := &recorder{}, clocktesting.NewFakeClock(start)
	return New(r, "node-1", clk), r, clk
}

func aDump() *Dump {
	return &Dump{
		Namespace: "shop", Pod: "web-0", PodUID: "u1", Container: "app", Name: "web-0.app.20260921t142640z-0123456789", Mode: "pipe",
		Signal: "SIGSEGV", Executable: "/app/server", Entry: "e1", Outcome: spool.Outcome{Size: 3 << 30, PromisedSize: 3 << 30, HoldMicros: 2_500_000, FirstByteMicros: 4000, Answered: true},
	}
}

func counter(t *testing.T, name string, labels map[string]string) float64 {
	t.Helper()
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "coredump_nodehandler_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if testutil.LabelsMatch(m, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	t.Errorf("no series %s%v", name, labels)
	return 0
}

func TestACapturedDumpIsToldOnThePodWithTheWayToGetIt(t *testing.T) {
	tell, r, _ := newTeller()
	before := counter(t, "captures_total", map[string]string{"mode": "pipe", "result": "kept"})
	tell.Finished(t.Context(), aDump())
	got := r.take()
	if len(got) != 1 {
		t.Fatalf("%+v", got)
	}
	e := got[0]
	want := "SIGSEGV in /app/server (container app): core dump of 3.0 GiB captured as web-0.app.20260921t142640z-0123456789, there once it is uploaded. " +
		"To get it: kubectl get --raw /apis/coredump.example.io/v1alpha1/namespaces/shop/coredumps/web-0.app.20260921t142640z-0123456789/dump > coredump.tar.gz"
	if e.note != want || e.kind != "Warning" || e.reason != "CoreDumpCaptured" || e.action == "" {
		t.Errorf("%+v", e)
	}
	if e.on.Kind != "Pod" || e.on.Namespace != "shop" || e.on.Name != "web-0" || e.on.UID != "u1" || e.on.FieldPath != "spec.containers{app}" || e.related.Kind != "CoreDump" {
		t.Errorf("on %+v, related %+v", e.on, e.related)
	}
	if counter(t, "captures_total", map[string]string{"mode": "pipe", "result": "kept"}) != before+1 || counter(t, "captured_total", map[string]string{"namespace": "shop"}) < 1 ||
		counter(t, "hold_seconds", map[string]string{"mode": "pipe"}) < 1 {
		t.Error("not counted")
	}
}

func TestATruncatedDumpIsToldWithBothSizes(t *testing.T) {
	tell, r, _ := newTeller()
	d := aDump()
	d.Outcome.Size, d.Outcome.Truncated = 64<<20, spool.ReasonTooLarge
	tell.Finished(t.Context(), d)
	got := r.take()
	if len(got) != 2 || got[1].reason != "CoreDumpTruncated" || !strings.Contains(got[1].note, "it is larger than allowed; 64 MiB of 3.0 GiB were kept") {
		t.Errorf("%+v", got)
	}
	if counter(t, "truncated_total", map[string]string{"namespace": "shop", "reason": "too-large"}) < 1 {
		t.Error("not counted")
	}
}

func TestSuppressedDumpsAreToldInNumbers(t *testing.T) {
	tell, r, clk := newTeller()
	before := counter(t, "suppressed_total", map[string]string{"namespace": unknown, "reason": "rate-limit"})
	for i := range 1000 {
		d := aDump()
		d.Name, d.Outcome = "", spool.Outcome{Suppressed: spool.ReasonRateLimit}
		d.Kept, d.SuppressedCount, d.Since = 3, i+1, start
		tell.Finished(t.Context(), d)
		if i == 240 {
			clk.Step(15 * time.Minute)
		}
		d.Namespace = ""
		tell.Finished(t.Context(), d)
	}
	got := r.take()
	if len(got) != 2 {
		t.Fatalf("%d Events", len(got))
	}
	if want := "SIGSEGV in /app/server (container app): no core dump was kept: the workload had its dumps of this hour. Captured 3, suppressed 242 of this workload on this node since 14:13 UTC."; got[1].note != want {
		t.Errorf("%s", got[1].note)
	}
	if counter(t, "suppressed_total", map[string]string{"namespace": unknown, "reason": "rate-limit"}) != before+1000 ||
		counter(t, "events_total", map[string]string{"reason": "CoreDumpSuppressed", "result": "dropped"}) < 998 || tell.unlogged.Load() == 0 {
		t.Error("not counted")
	}
}

func TestWhoOptsOutIsNotTold(t *testing.T) {
	tell, r, _ := newTeller()
	d := aDump()
	d.Outcome = spool.Outcome{Suppressed: spool.ReasonOptedOut}
	tell.Finished(t.Context(), d)
	if got := r.take(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestP5_AStormIsNoFloodOfEvents(t *testing.T) {
	tell, r, _ := newTeller()
	for i := range 10_000 {
		d := aDump()
		d.PodUID = fmt.Sprint(i)
		tell.Finished(t.Context(), d)
	}
	if got := r.take(); len(got) != burst {
		t.Errorf("%d Events at once", len(got))
	}
	if tell.each.Len() > limited {
		t.Errorf("%d pods are remembered", tell.each.Len())
	}
	tell, r, _ = newTeller()
	for range 100 {
		tell.Finished(t.Context(), aDump())
	}
	if got := r.take(); len(got) != limits[Captured].burst {
		t.Errorf("%d Events of one pod", len(got))
	}
}

func TestTroubleOfTheHostIsToldOnTheNode(t *testing.T) {
	tell, r, _ := newTeller()
	before := counter(t, "host_drift_total", map[string]string{"setting": "core_pattern"})
	for range 10 {
		tell.SettingsHealed(t.Context(), "core_pattern", `core_pattern was "core"`)
		tell.SettingsRefused(t.Context(), `core_pattern is "|/bin/false"`)
		tell.SpoolFull(t.Context(), "10 GiB of 10 GiB are used")
		tell.StoreUnavailable(t.Context(), "connection refused\x1b[31m")
	}
	got := r.take()
	if len(got) != 5 { // two of the first, one of each other
		t.Errorf("%d Events", len(got))
	}
	for _, e := range got {
		if e.on.Kind != "Node" || e.on.Name != "node-1" || e.on.UID != "node-1" || e.on.Namespace != "" || e.kind != "Warning" || !isPrintable(e.note) {
			t.Errorf("%+v", e)
		}
	}
	if counter(t, "host_drift_total", map[string]string{"setting": "core_pattern"}) != before+10 {
		t.Error("not counted")
	}
}

func TestCopiesAndSettingsAreTold(t *testing.T) {
	tell, r, _ := newTeller()
	tell.Copied(t.Context(), aDump(), "/data/core-1", "", "")
	tell.Copied(t.Context(), aDump(), "/data/core-1", "no-space", "not enough room")
	tell.Invalid(t.Context(), aDump(), []judge.Invalid{
		{Where: judge.OnPod, Key: judge.KeyMaxSize, Problem: `"x": must be a positive number of bytes such as 512Mi`, First: true},
		{Where: judge.OnNamespace, Key: judge.KeyCapture, Problem: "told already"},
	})
	got := r.take()
	if len(got) != 2 || got[0].reason != "CoreDumpCopyFailed" || !strings.HasSuffix(got[0].note, "no copy was put into the container: not enough room") ||
		got[1].note != `The setting coredump.example.io/max-size of the pod is ignored: "x": must be a positive number of bytes such as 512Mi` {
		t.Errorf("%+v", got)
	}
	if counter(t, "copies_total", map[string]string{"result": "copied"}) < 1 || counter(t, "copies_total", map[string]string{"result": "no-space"}) < 1 ||
		counter(t, "invalid_settings_total", map[string]string{"where": "namespace"}) < 1 {
		t.Error("not counted")
	}
}

func TestWithoutKubernetesThereAreMetricsAndLinesAlone(t *testing.T) {
	tell := New(nil, "node-1", clocktesting.NewFakeClock(start))
	tell.Finished(t.Context(), aDump())
	tell.SpoolFull(t.Context(), "full")
	tell.Forwarded(t.Context(), "pipe", ForwardedHost)
	tell.Failed(t.Context(), "socket", errors.New("broken"))
	tell.Judged(time.Millisecond)
	SetSpool(5, 1, 2, 3)
	SetActive(4)
	SetHung(1)
	for name, want := range map[string]float64{"spool_bytes": 5, "captures_active": 4, "copies_hung": 1} {
		if got := counter(t, name, nil); got != want {
			t.Errorf("%s is %v", name, got)
		}
	}
	if counter(t, "forwarded_total", map[string]string{"reason": "host"}) < 1 || counter(t, "captures_total", map[string]string{"mode": "socket", "result": "failed"}) < 1 {
		t.Error("not counted")
	}
}

func TestNamespacesAreBounded(t *testing.T) {
	first := 0
	b := &bounded{most: 200, seen: map[string]bool{}, first: func(string) { first++ }}
	for range 2 {
		for i := range 10_000 {
			want := fmt.Sprint(i)
			if i >= 200 {
				want = otherNamespaces
			}
			if got := b.of(fmt.Sprint(i)); got != want {
				t.Fatalf("%d: %s", i, got)
			}
		}
	}
	if b.of("") != unknown || first != 200 {
		t.Errorf("%s, %d", b.of(""), first)
	}
}

func TestHostileTextsAreShortAndPrintable(t *testing.T) {
	long := strings.Repeat("\x1b]0;\n\u202e", 1000)
	d := &Dump{
		Namespace: "n", Pod: "p", Container: long, Name: long, Signal: long, Executable: long, Mode: long, Entry: "e", Since: start,
		Outcome: spool.Outcome{Size: -1, PromisedSize: 1, Truncated: spool.Reason(long), Error: long},
	}
	tell, r, _ := newTeller()
	tell.Finished(t.Context(), d)
	d.Outcome.Suppressed = spool.Reason(long)
	tell.Finished(t.Context(), d)
	tell.Copied(t.Context(), d, long, long[:10], long)
	tell.SettingsRefused(t.Context(), long)
	got := r.take()
	if len(got) != 5 {
		t.Errorf("%d Events", len(got))
	}
	for _, e := range got {
		if len(e.note) >= 1024 || !isPrintable(e.note) {
			t.Errorf("%d bytes: %q", len(e.note), e.note)
		}
	}
	if counter(t, "suppressed_total", map[string]string{"namespace": "n", "reason": "other"}) != 1 {
		t.Error("a reason that nobody knows is not other")
	}
}

// Not a fuzz target: building client-go for fuzzing takes many minutes.
func TestWhateverADumpSaysItsNotesAreShortAndPrintable(t *testing.T) {
	holds := func(ns, container, name, signal, exe, reason string, size int64) bool {
		d := &Dump{
			Namespace: ns, Container: container, Name: name, Signal: signal, Executable: exe, Since: start,
			Outcome: spool.Outcome{Size: size, PromisedSize: size, Truncated: spool.Reason(reason), Suppressed: spool.Reason(reason)},
		}
		for _, s := range []string{d.captured(), d.truncated(), d.suppressed()} {
			if len(s) > maxNote || !isPrintable(s) {
				return false
			}
		}
		return true
	}
	if err := quick.Check(holds, &quick.Config{MaxCount: 2000}); err != nil {
		t.Error(err)
	}
}

func isPrintable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

func TestEventsReachTheAPIServer(t *testing.T) {
	client := fake.NewClientset()
	created := make(chan *eventsv1.Event, 10)
	client.PrependReactor("create", "events", func(a clienttesting.Action) (bool, runtime.Object, error) {
		e := a.(clienttesting.CreateAction).GetObject().(*eventsv1.Event)
		created <- e.DeepCopy()
		if e.Reason == string(SpoolFull) {
			return true, nil, apierrors.NewForbidden(eventsv1.Resource("events"), e.Name, errors.New("no"))
		}
		return true, e, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	recorder, err := NewRecorder(ctx, client.EventsV1())
	if err != nil {
		t.Fatal(err)
	}
	tell := New(recorder, "node-1", clocktesting.NewFakeClock(start))
	sent := counter(t, "events_total", map[string]string{"reason": "CoreDumpCaptured", "result": "sent"})
	failed := counter(t, "events_total", map[string]string{"reason": "CoreDumpSpoolFull", "result": "failed"})
	for i, tellIt := range []func(){
		func() { tell.Finished(ctx, aDump()) },
		func() { tell.SpoolFull(ctx, "full") },
	} {
		tellIt()
		e := <-created
		wantNamespace, wantKind := "shop", "Pod"
		if i == 1 {
			wantNamespace, wantKind = "default", "Node"
		}
		if e.Namespace != wantNamespace || e.Regarding.Kind != wantKind || e.ReportingController != controller || e.ReportingInstance == "" || e.Type != "Warning" || e.EventTime.IsZero() {
			t.Errorf("%+v", e)
		}
	}
	for counter(t, "events_total", map[string]string{"reason": "CoreDumpCaptured", "result": "sent"}) != sent+1 ||
		counter(t, "events_total", map[string]string{"reason": "CoreDumpSpoolFull", "result": "failed"}) != failed+1 {
		time.Sleep(time.Millisecond)
	}
}
