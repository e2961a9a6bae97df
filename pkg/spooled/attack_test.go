// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spooled

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/cgroup"
	"example.io/coredump/pkg/corefile/corefiletest"
	"example.io/coredump/pkg/identity"
	"example.io/coredump/pkg/spool"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/upload"
)

// onePod knows one container.
type onePod struct{ asked []cgroup.ID }

func (l *onePod) Locate(_ context.Context, id cgroup.ID, _ time.Time) (identity.Who, error) {
	l.asked = append(l.asked, id)
	if id.PodUID != podUID {
		return identity.Who{}, errors.New("no such pod")
	}
	return identity.Who{Namespace: "team", NamespaceUID: "ns-1", Pod: "web-0", PodUID: podUID, Container: "app", Verified: true}, nil
}

// crashed is the record of a dump whose meta is that of a pod's process, changed by forge; who is what was written down while it was held.
func crashed(t *testing.T, l *onePod, who *identity.Who, forge func(*spool.Meta)) *v1alpha1.CoreDump {
	t.Helper()
	s, err := spool.Open(filepath.Join(t.TempDir(), "spool"))
	must(t, err)
	t.Cleanup(func() { s.Close() })
	meta := &spool.Meta{
		Mode: "pipe", HostPID: 4711, StartTime: 1, BootID: "b", Signal: 11, Dumpable: 1, CrashTime: time.Now().UnixNano(), Verified: true,
		Cgroup: "0::/kubepods/burstable/pod" + podUID + "/" + strings.Repeat("ab", 32) + "\n",
	}
	forge(meta)
	w, err := s.Create(spool.NewName(meta))
	must(t, err)
	must(t, w.WriteMeta(meta))
	if who != nil {
		data, err := who.Encode()
		must(t, err)
		must(t, w.WriteFile(spool.IdentityFile, data))
	}
	core, err := w.CreateCore()
	must(t, err)
	_, err = core.Write(corefiletest.Core(5000, 1))
	must(t, errors.Join(err, core.Close()))
	must(t, w.Finish(spool.Outcome{Size: 5000, PromisedSize: 5000}))
	source := New(Options{Spool: s, Place: identity.Place{NodeName: "node-1"}, Locator: l})
	var rec *v1alpha1.CoreDump
	source.scan(t.Context(), func(d upload.Dump) bool {
		o, err := d.Open()
		must(t, err)
		defer o.File.Close()
		must(t, o.Identify(t.Context(), o.Record))
		rec = o.Record
		return true
	})
	if rec == nil {
		t.Fatal("no dump was offered")
	}
	return rec
}

// administrators tells whether a dump is where no role of a tenant reaches.
func administrators(rec *v1alpha1.CoreDump) bool {
	return rec.Namespace == storage.UnknownNamespace && rec.Spec.PodName == "node-1" && rec.Spec.ContainerName == storage.UnknownContainer &&
		rec.Spec.Capture.Identity == v1alpha1.IdentityUnknown
}

func TestADumpOfAPodGoesToIt(t *testing.T) {
	rec := crashed(t, &onePod{}, nil, func(*spool.Meta) {})
	if rec.Namespace != "team" || rec.Spec.PodName != "web-0" || rec.Spec.Capture.Identity != v1alpha1.IdentityVerified {
		t.Errorf("%+v", rec)
	}
}

// The process was killed before corepipe had read its cgroup, and its id may be another pod's by then.
func TestP1_WhatIsNotVerifiedIsNobodys(t *testing.T) {
	l := &onePod{}
	if rec := crashed(t, l, nil, func(m *spool.Meta) { m.Verified = false }); !administrators(rec) || len(l.asked) > 0 {
		t.Errorf("%+v; asked %v", rec, l.asked)
	}
}

func TestP2_OnlyTheCgroupSaysWhoseADumpIs(t *testing.T) {
	const victim = "11111111-2222-3333-4444-555555555555"
	l := &onePod{}
	rec := crashed(t, l, nil, func(m *spool.Meta) {
		m.Comm, m.Exe = "pod"+victim, "/kubepods/pod"+victim+"/../../"+strings.Repeat("cd", 32)
	})
	if rec.Namespace != "team" || rec.Spec.PodUID != podUID {
		t.Errorf("%+v", rec)
	}
	for _, id := range l.asked {
		if id.PodUID != podUID {
			t.Errorf("asked whose %v is", id)
		}
	}
}

func TestP3_APathThatDoesNotTellIsNobodys(t *testing.T) {
	container := "/" + strings.Repeat("ab", 32) + "\n"
	for _, text := range []string{
		"", "0::/../pod" + podUID + container, "0::/kubepods/pod" + podUID + "\n",
		"0::/kubepods/pod" + podUID + container + "1:x:/kubepods/pod11111111-2222-3333-4444-555555555555" + container,
	} {
		if rec := crashed(t, &onePod{}, nil, func(m *spool.Meta) { m.Cgroup = text }); !administrators(rec) {
			t.Errorf("%q: %+v", text, rec)
		}
	}
}

// The memory of such a process may hold what its user, and so the pod's owner, must not read.
func TestP12_ADumpOfAPrivilegedProcessIsForAdministrators(t *testing.T) {
	known := &identity.Who{Namespace: "team", NamespaceUID: "ns-1", Pod: "web-0", PodUID: podUID, Container: "app", Verified: true}
	for what, who := range map[string]*identity.Who{"asked later": nil, "known at the crash": known} {
		if rec := crashed(t, &onePod{}, who, func(m *spool.Meta) { m.Dumpable = 2 }); !administrators(rec) {
			t.Errorf("%s: %+v", what, rec)
		}
	}
}

func TestP12_ADumpOfNoPodIsForAdministrators(t *testing.T) {
	if rec := crashed(t, &onePod{}, nil, func(m *spool.Meta) { m.Cgroup = "0::/system.slice/kubelet.service\n" }); !administrators(rec) {
		t.Errorf("%+v", rec)
	}
}

func TestP1_WhatIsWrittenDownOfAnUnverifiedProcessIsNotBelieved(t *testing.T) {
	f := newFixture(t, nil)
	m := &spool.Meta{Mode: "pipe", BootID: "b", HostPID: 9, StartTime: 7, CrashTime: time.Now().UnixNano(), Cgroup: "0::" + container + "\n"}
	e, err := f.spool.Entry(f.entryOf(t, m, spool.Outcome{Answered: true}))
	must(t, err)
	defer e.Close()
	data, err := f.locator.who.Encode()
	must(t, err)
	must(t, e.WriteFile(spool.IdentityFile, data))
	if who, err := f.whose(t.Context(), e, m); !errors.Is(err, errUnknown) || who.Pod != "" || f.locator.asked != 0 {
		t.Errorf("%+v, %v, asked %d times", who, err, f.locator.asked)
	}
}

func TestANodeHandlerThatHasJustStartedDoesNotGiveUpOldDumps(t *testing.T) {
	f := newFixture(t, nil)
	f.started = time.Now()
	f.locator.who, f.locator.err = identity.Who{}, identity.ErrNotYet // it knows no pods yet
	f.entry(t, 2*hope, spool.Outcome{Answered: true})
	f.look(t)
	o, err := f.offered[0].Open()
	must(t, err)
	defer o.File.Close()
	if err := o.Identify(t.Context(), o.Record); !errors.Is(err, identity.ErrNotYet) || len(f.ended) != 0 {
		t.Errorf("%v, told of %d", err, len(f.ended))
	}
}

func TestP5_EntriesWithoutDumpsDoNotFillTheSpoolWhileNobodyAnswers(t *testing.T) {
	f := newFixture(t, nil)
	f.locator.who, f.locator.err = identity.Who{}, identity.ErrNotYet
	const more = 5
	for range maxUntold + more {
		f.entry(t, 0, spool.Outcome{Suppressed: spool.ReasonConcurrency, Answered: true})
	}
	f.look(t)
	if n := f.left(t); n != maxUntold || len(f.ended) != more || f.ended[0].Known {
		t.Errorf("%d wait, %d were told of: want %d, %d", n, len(f.ended), maxUntold, more)
	}
}
