// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spooled

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/bundle"
	"example.io/coredump/pkg/cgroup"
	"example.io/coredump/pkg/corefile/corefiletest"
	"example.io/coredump/pkg/identity"
	"example.io/coredump/pkg/spool"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/upload"
)

const (
	podUID    = "8f0e2a3c-0d5c-4b3a-9f0e-2a3c0d5c4b3a"
	container = "/kubepods/burstable/pod" + podUID + "/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

type locator struct {
	who   identity.Who
	err   error
	asked int
	// hangs makes it wait until nobody waits any more.
	hangs bool
}

func (l *locator) Locate(ctx context.Context, _ cgroup.ID, _ time.Time) (identity.Who, error) {
	l.asked++
	if l.hangs {
		<-ctx.Done()
		return identity.Who{}, fmt.Errorf("%w: %w", identity.ErrNotYet, ctx.Err())
	}
	return l.who, l.err
}

type fixture struct {
	*Source
	spool   *spool.Spool
	locator *locator
	mu      sync.Mutex
	ended   []*Ended
	offered []upload.Dump
	pid     int64
}

func newFixture(t *testing.T, change func(*Options)) *fixture {
	t.Helper()
	s, err := spool.Open(filepath.Join(t.TempDir(), "spool"))
	must(t, err)
	t.Cleanup(func() { s.Close() })
	f := &fixture{spool: s, locator: &locator{who: identity.Who{
		Namespace: "shop", NamespaceUID: "u", Pod: "checkout", PodUID: podUID, Container: "app", Verified: true, NodeName: "n1",
	}}}
	f.restart(change)
	return f
}

// restart forgets all that is not on disk.
func (f *fixture) restart(change func(*Options)) {
	o := Options{
		Spool: f.spool, Locator: f.locator, Place: identity.Place{NodeName: "n1", ClusterName: "c"},
		Ended: func(_ context.Context, e *Ended) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.ended = append(f.ended, e)
		},
	}
	if change != nil {
		change(&o)
	}
	f.Source = New(o)
	f.started = time.Now().Add(-2 * hope) // it knows whom it will ever know
}

func (f *fixture) take(d upload.Dump) bool { f.offered = append(f.offered, d); return true }

func (f *fixture) look(t *testing.T) {
	t.Helper()
	f.offered = nil
	f.scan(t.Context(), f.take)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// entry makes a finished entry.
func (f *fixture) entry(t *testing.T, age time.Duration, o spool.Outcome) string {
	t.Helper()
	f.pid++
	m := &spool.Meta{
		Mode: "pipe", BootID: "b", HostPID: f.pid, PID: 1, StartTime: 7, CrashTime: time.Now().Add(-age).UnixNano(), Cgroup: "0::" + container + "\n", Verified: true,
		Signal: 11, Exe: "/app/server", Comm: "server",
	}
	return f.entryOf(t, m, o)
}

func (f *fixture) entryOf(t *testing.T, m *spool.Meta, o spool.Outcome) string {
	t.Helper()
	w, err := f.spool.Create(spool.NewName(m))
	must(t, err)
	must(t, w.WriteMeta(m))
	if o.Suppressed == "" {
		core, err := w.CreateCore()
		must(t, err)
		data := corefiletest.Core(1<<16, 1)
		_, err = core.Write(data)
		must(t, errors.Join(err, core.Close()))
		o.Size = int64(len(data))
	}
	name := w.Name()
	must(t, w.Finish(o))
	return name
}

func (f *fixture) left(t *testing.T) int {
	t.Helper()
	names, err := f.spool.Ready()
	must(t, err)
	return len(names)
}

func TestADumpIsOfferedAndToldOfOnceWhateverHappens(t *testing.T) {
	f := newFixture(t, nil)
	f.entry(t, 0, spool.Outcome{Answered: true})
	for range 3 {
		if f.look(t); len(f.offered) != 1 {
			t.Fatalf("offered %d", len(f.offered))
		}
	}
	f.restart(nil)
	f.look(t)
	if len(f.offered) != 1 || len(f.ended) != 1 || !f.ended[0].Known || f.ended[0].Name == "" || f.ended[0].Who.Pod != "checkout" {
		t.Errorf("offered %d, told %+v", len(f.offered), f.ended)
	}
}

func TestADumpThatWasSuppressedIsToldOfAndRemoved(t *testing.T) {
	f := newFixture(t, nil)
	f.entry(t, 0, spool.Outcome{Answered: true, Suppressed: spool.ReasonRateLimit})
	f.look(t)
	if len(f.offered) != 0 || len(f.ended) != 1 || f.left(t) != 0 {
		t.Errorf("offered %d, told %d, left %d", len(f.offered), len(f.ended), f.left(t))
	}
}

// Else a full disk would fill the log and use up the limits of the workload.
func TestADumpIsToldOfOnceAlsoWhereTheMarkCannotBeWritten(t *testing.T) {
	f := newFixture(t, nil)
	name := f.entry(t, 0, spool.Outcome{Answered: true})
	must(t, os.MkdirAll(filepath.Join(f.spool.ReadyPath(), name, "."+toldFile+".tmp", "x"), 0o700))
	for range 3 {
		f.look(t)
	}
	o, err := f.offered[0].Open()
	must(t, err)
	defer o.File.Close()
	must(t, o.Identify(t.Context(), o.Record))
	if len(f.ended) != 1 {
		t.Errorf("told %d times", len(f.ended))
	}
}

// While nobody can say whose dumps are they are offered all the same, in no time, and told of when it is known: by the upload, at the latest.
func TestAnAPIThatIsAwayHoldsUpNothing(t *testing.T) {
	f := newFixture(t, nil)
	f.locator.err = identity.ErrNotYet
	for range 50 {
		f.entry(t, 0, spool.Outcome{Answered: true})
	}
	f.entry(t, 0, spool.Outcome{Answered: true, Suppressed: spool.ReasonRateLimit})
	f.look(t)
	if len(f.offered) != 50 || len(f.ended) != 0 || f.left(t) != 51 {
		t.Fatalf("offered %d, told %d, left %d", len(f.offered), len(f.ended), f.left(t))
	}
	o, err := f.offered[7].Open()
	must(t, err)
	defer o.File.Close()
	if err := o.Identify(t.Context(), o.Record); err == nil || errors.Is(err, upload.ErrGone) {
		t.Errorf("%v", err)
	}
	f.locator.err = nil
	must(t, o.Identify(t.Context(), o.Record))
	if len(f.ended) != 1 || o.Record.Namespace != "shop" || o.Record.Spec.Capture.Identity != v1alpha1.IdentityVerified {
		t.Errorf("told %d, record %+v", len(f.ended), o.Record)
	}
	f.look(t)
	if len(f.ended) != 51 || f.left(t) != 50 {
		t.Errorf("told %d, left %d", len(f.ended), f.left(t))
	}
}

// Those that hang get their time one after the other.
func TestAScanAsksForASetTimeAndTheNextOneGoesOnThere(t *testing.T) {
	f := newFixture(t, nil)
	names := []string{f.entry(t, 3*time.Second, spool.Outcome{}), f.entry(t, 2*time.Second, spool.Outcome{}), f.entry(t, time.Second, spool.Outcome{})}
	f.locator.err = identity.ErrNotYet
	for i, want := range []int{0, 1, 2, 0} {
		f.asked = names[(want+2)%3] // the scan before ended with this one
		f.settleAll(t.Context(), names)
		if last := names[(want+2)%3]; f.asked != last {
			t.Errorf("%d: it ended with %s, want %s", i, f.asked, last)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.asked, f.locator.asked = names[0], 0
	if f.settleAll(ctx, names); f.asked != names[0] || f.locator.asked != 0 {
		t.Error("it goes on after its end")
	}
}

func TestWhatIsAttendedIsLeftAlone(t *testing.T) {
	attended := true
	f := newFixture(t, func(o *Options) { o.Attended = func(string) bool { return attended } })
	f.entry(t, 0, spool.Outcome{})
	if f.look(t); len(f.offered) != 0 || f.locator.asked != 0 {
		t.Errorf("offered %d", len(f.offered))
	}
	attended = false
	if f.look(t); len(f.offered) != 1 {
		t.Errorf("offered %d", len(f.offered))
	}
}

func TestADumpThatNobodyWasAskedAboutIsRemovedIfItIsNotWanted(t *testing.T) {
	for _, answered := range []bool{false, true} {
		f := newFixture(t, func(o *Options) { o.Wanted = func(w identity.Who) bool { return w.Pod != "checkout" } })
		f.entry(t, 0, spool.Outcome{Answered: answered})
		f.look(t)
		if want := map[bool]int{false: 0, true: 1}[answered]; f.left(t) != want || len(f.ended) != 1 {
			t.Fatalf("answered %v: left %d, told %d", answered, f.left(t), len(f.ended))
		}
		if s := f.ended[0].Outcome.Suppressed; (s == spool.ReasonOptedOut) == answered {
			t.Errorf("answered %v: suppressed %q", answered, s)
		}
		if answered {
			continue
		}
		if _, err := f.offered[0].Open(); !errors.Is(err, upload.ErrGone) {
			t.Errorf("it can still be uploaded: %v", err)
		}
	}
}

// The upload may come first: nothing that is not wanted leaves the node.
func TestAnUploadDoesNotTakeWhatIsNotWanted(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Wanted = func(identity.Who) bool { return false } })
	name := f.entry(t, 0, spool.Outcome{})
	o, err := (&dump{source: f.Source, name: name}).Open()
	must(t, err)
	defer o.File.Close()
	if err := o.Identify(t.Context(), o.Record); !errors.Is(err, upload.ErrGone) || f.left(t) != 0 {
		t.Errorf("%v, left %d", err, f.left(t))
	}
}

func TestWhatNobodyCanSayIsForAdministrators(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*spool.Meta)
		err    error
		waits  bool
	}{
		"the process was gone":              {change: func(m *spool.Meta) { m.Verified = false }},
		"no cgroup of a pod":                {change: func(m *spool.Meta) { m.Cgroup = "0::/kubepods/podx/y\n" }},
		"they contradict each other":        {err: identity.ErrContradiction},
		"nobody knew for an hour":           {err: identity.ErrNotYet, change: func(m *spool.Meta) { m.CrashTime -= int64(hope + time.Second) }},
		"nobody knows, and it was just now": {err: identity.ErrNotYet, waits: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			f.locator.who, f.locator.err = identity.Who{}, c.err
			m := &spool.Meta{Mode: "pipe", BootID: "b", HostPID: 9, StartTime: 7, CrashTime: time.Now().UnixNano(), Cgroup: "0::" + container + "\n", Verified: true}
			if c.change != nil {
				c.change(m)
			}
			f.entryOf(t, m, spool.Outcome{Answered: true})
			f.look(t)
			o, err := f.offered[0].Open()
			must(t, err)
			defer o.File.Close()
			err = o.Identify(t.Context(), o.Record)
			if c.waits {
				if err == nil || len(f.ended) != 0 {
					t.Errorf("%v, told %d", err, len(f.ended))
				}
				return
			}
			must(t, err)
			s := o.Record.Spec
			if o.Record.Namespace != storage.UnknownNamespace || s.PodName != "n1" || s.ContainerName != storage.UnknownContainer || s.Capture.Identity != v1alpha1.IdentityUnknown {
				t.Errorf("%+v", o.Record)
			}
			if len(f.ended) != 1 || f.ended[0].Known || f.ended[0].Name != "" {
				t.Errorf("told %+v", f.ended)
			}
		})
	}
}

// What was found out while the process was held needs nobody any more; also what was asked for later is written down.
func TestWhoseADumpIsIsRemembered(t *testing.T) {
	f := newFixture(t, nil)
	name := f.entry(t, 0, spool.Outcome{Answered: true})
	f.look(t)
	f.locator.err = identity.ErrContradiction
	f.restart(nil)
	o, err := (&dump{source: f.Source, name: name}).Open()
	must(t, err)
	defer o.File.Close()
	must(t, o.Identify(t.Context(), o.Record))
	if o.Record.Namespace != "shop" || len(f.ended) != 1 {
		t.Errorf("%+v, told %d", o.Record, len(f.ended))
	}
}

func TestAnEndIsNobodysAnswer(t *testing.T) {
	f := newFixture(t, nil)
	f.locator.hangs = true
	name := f.entry(t, 2*hope, spool.Outcome{Answered: true})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.settleEntry(ctx, name); err == nil || errors.Is(err, errUnknown) || len(f.ended) != 0 {
		t.Errorf("%v, told %d", err, len(f.ended))
	}
}

func TestTheContextIsWhatWasCollectedOrElseWhatCanBeHadLater(t *testing.T) {
	for _, collected := range []bool{true, false} {
		gathered := 0
		f := newFixture(t, func(o *Options) {
			o.Gather = func(context.Context, cgroup.ID, identity.Who) ([]bundle.File, error) {
				gathered++
				return []bundle.File{{Name: "pod.json", Data: []byte("late")}}, nil
			}
		})
		name := f.entry(t, 0, spool.Outcome{Answered: true})
		e, err := f.spool.Entry(name)
		must(t, err)
		must(t, e.WriteFile(spool.ContextDir+"/proc/maps", []byte("maps")))
		if collected {
			must(t, e.WriteFile(spool.ContextDir+"/pod.json", []byte("then")))
		}
		must(t, e.Close())
		o, err := (&dump{source: f.Source, name: name}).Open()
		must(t, err)
		must(t, o.Identify(t.Context(), o.Record))
		files, err := o.Context(t.Context())
		must(t, errors.Join(err, o.File.Close()))
		got := map[string]string{}
		for _, file := range files {
			got[file.Name] = string(file.Data)
		}
		if want := map[bool]string{true: "then", false: "late"}[collected]; len(got) != 2 || got["pod.json"] != want || got["proc/maps"] != "maps" {
			t.Errorf("collected %v: %v", collected, got)
		}
		if (gathered == 0) != collected {
			t.Errorf("collected %v: gathered %d times", collected, gathered)
		}
	}
}

func TestTheRecordSaysWhyADumpIsCut(t *testing.T) {
	for _, r := range []spool.Reason{
		spool.ReasonKilled, spool.ReasonTooLarge, spool.ReasonDeadline, spool.ReasonStalled, spool.ReasonNoSpace, spool.ReasonAbandoned, spool.ReasonReadError, "new",
	} {
		d := record(&spool.Meta{Mode: "pipe", Signal: 11, UID: 1000}, &spool.Outcome{Truncated: r, PromisedSize: 5})
		if !d.Status.Truncated || d.Status.TruncatedReason == "" || d.Status.PromisedSize != 5 || d.Spec.Process.SignalName != "SIGSEGV" || *d.Spec.Process.UID != 1000 {
			t.Errorf("%s: %+v", r, d)
		}
	}
}

func TestAnUnreadableEntryIsSetAside(t *testing.T) {
	f := newFixture(t, nil)
	name := f.entry(t, 0, spool.Outcome{})
	e, err := f.spool.Entry(name)
	must(t, err)
	must(t, errors.Join(e.WriteFile(spool.OutcomeFile, []byte("{")), e.Close()))
	f.look(t)
	aside, err := f.spool.Aside()
	must(t, err)
	if len(aside) != 1 || len(f.offered) != 0 || f.left(t) != 0 {
		t.Errorf("aside %v, offered %d, left %d", aside, len(f.offered), f.left(t))
	}
}

func TestTheLoopSeesWhatComesAndEndsWithItsContext(t *testing.T) {
	f := newFixture(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	offered, done := make(chan upload.Dump, 8), make(chan error, 1)
	go func() {
		done <- f.Run(ctx, func(d upload.Dump) bool { offered <- d; return true })
	}()
	name := f.entry(t, 0, spool.Outcome{Answered: true})
	if d := <-offered; d.Path() != "spool/"+name {
		t.Errorf("offered %s", d.Path())
	}
	if err := f.Alive(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil || !f.Scanned() {
		t.Errorf("%v, scanned %v", err, f.Scanned())
	}
}
