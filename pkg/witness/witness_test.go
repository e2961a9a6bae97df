// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"example.io/coredump/pkg/bundle"
	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/capture/notify"
	"example.io/coredump/pkg/cgroup"
	"example.io/coredump/pkg/corefile/corefiletest"
	"example.io/coredump/pkg/identity"
	"example.io/coredump/pkg/judge"
	"example.io/coredump/pkg/podcopy"
	"example.io/coredump/pkg/spool"
)

const (
	podUID    = "8f0e2a3c-0d5c-4b3a-9f0e-2a3c0d5c4b3a"
	container = "/kubepods/burstable/pod" + podUID + "/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	patience  = time.Minute
)

// locator answers what it is told to.
type locator struct {
	mu   sync.Mutex
	who  identity.Who
	errs []error // one for each question; then none
	// wait is closed when it may answer; nil: at once.
	wait  chan struct{}
	asked int
}

func (l *locator) Locate(ctx context.Context, _ cgroup.ID, _ time.Time) (identity.Who, error) {
	if l.wait != nil {
		select {
		case <-l.wait:
		case <-ctx.Done():
			return identity.Who{}, errors.Join(identity.ErrNotYet, ctx.Err())
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return identity.Who{}, err
	}
	return l.who, nil
}

type teller struct {
	mu     sync.Mutex
	judged int
	copied []error
}

func (t *teller) Judged(context.Context, string, identity.Who, *judge.Decision, time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.judged++
}

func (t *teller) Copied(_ context.Context, _ identity.Who, _ string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.copied = append(t.copied, err)
}

type fixture struct {
	*Witness
	spool    *spool.Spool
	judge    *judge.Judge
	locator  *locator
	teller   *teller
	finished chan string
	gathered func(ctx context.Context)
}

func who() identity.Who {
	return identity.Who{Namespace: "shop", NamespaceUID: "u", Pod: "checkout", PodUID: podUID, Container: "app", Verified: true}
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	s, err := spool.Open(filepath.Join(t.TempDir(), "spool"))
	must(t, err)
	t.Cleanup(func() { s.Close() })
	f := &fixture{spool: s, locator: &locator{who: who()}, teller: &teller{}, finished: make(chan string, 16)}
	f.judge = judge.New(judge.Config{Capture: true, OptedOut: capture.Drop, MaxSize: 1 << 30, MaxPerHour: 10, Concurrent: 4}, clock.RealClock{})
	f.Witness = New(Options{
		Spool: s, Locator: f.locator, Judge: f.judge, Teller: f.teller,
		Copier: podcopy.New(podcopy.Limits{MaxSize: 1 << 30, FreePercent: 0, Preparing: 2, Writing: 2}),
		Gather: func(ctx context.Context, _ cgroup.ID, w identity.Who) ([]bundle.File, error) {
			if f.gathered != nil {
				f.gathered(ctx)
			}
			return []bundle.File{{Name: "pod.json", Data: []byte(w.Pod)}}, errors.New("no log")
		},
		Finished: func(entry string) { f.finished <- entry },
	})
	return f
}

// begin is what corepipe does first.
func (f *fixture) begin(t *testing.T) (*spool.Writer, *notify.Crash) {
	t.Helper()
	m := &spool.Meta{Mode: "pipe", BootID: "b", HostPID: 42, StartTime: 7, CrashTime: time.Now().UnixNano(), Cgroup: "0::" + container + "\n", Verified: true, Signal: 11}
	w, err := f.spool.Create(spool.NewName(m))
	must(t, err)
	must(t, w.WriteMeta(m))
	return w, &notify.Crash{Request: capture.Request{Entry: w.Name(), Meta: *m}}
}

// finish is what it does last.
func finish(t *testing.T, w *spool.Writer, o spool.Outcome) {
	t.Helper()
	if o.Suppressed == "" {
		core, err := w.CreateCore()
		must(t, err)
		data := corefiletest.Core(1<<16, 1)
		_, err = core.Write(data)
		must(t, errors.Join(err, core.Close()))
		o.Size = int64(len(data))
	}
	must(t, w.Finish(o))
}

func (f *fixture) settled(t *testing.T, entry string) *spool.Entry {
	t.Helper()
	select {
	case got := <-f.finished:
		if got != entry || f.Attended(entry) {
			t.Errorf("%s is finished, attended %v", got, f.Attended(entry))
		}
	case <-time.After(patience):
		t.Fatal("it is never finished")
	}
	e, err := f.spool.Entry(entry)
	must(t, err)
	t.Cleanup(func() { e.Close() })
	return e
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatWillBeGoneLaterIsInTheEntry(t *testing.T) {
	f := newFixture(t)
	w, crash := f.begin(t)
	if v := f.Judge(t.Context(), crash); v.Action != capture.Keep || !f.Attended(crash.Entry) {
		t.Fatalf("%+v", v)
	}
	finish(t, w, spool.Outcome{Answered: true})
	f.Ended(crash)
	e := f.settled(t, crash.Entry)
	data, err := e.ReadFile(spool.IdentityFile, 1<<16)
	must(t, err)
	if got, err := identity.DecodeWho(data); err != nil || got.Pod != "checkout" {
		t.Errorf("%+v %v", got, err)
	}
	// One part of the context could not be had; the other is there.
	if data, err := e.ReadFile(spool.ContextDir+"/pod.json", 100); err != nil || string(data) != "checkout" {
		t.Errorf("%q %v", data, err)
	}
	if c := f.judge.Counts(judge.Workload{Namespace: "shop", Kind: "Pod", Name: "checkout/" + podUID}); c.Kept != 1 || f.judge.Active() != 0 {
		t.Errorf("%+v, %d active", c, f.judge.Active())
	}
}

func TestWhoseItIsIsAskedAgainWhileTheStatusIsLate(t *testing.T) {
	f := newFixture(t)
	f.locator.errs = []error{identity.ErrNotYet, identity.ErrNotYet}
	w, crash := f.begin(t)
	f.Judge(t.Context(), crash)
	finish(t, w, spool.Outcome{Answered: true})
	f.Ended(crash)
	e := f.settled(t, crash.Entry)
	if _, err := e.ReadFile(spool.IdentityFile, 1<<16); err != nil || f.locator.asked != 3 {
		t.Errorf("asked %d times: %v", f.locator.asked, err)
	}
}

func TestAContradictionIsNotAskedForAgain(t *testing.T) {
	f := newFixture(t)
	f.locator.errs = []error{identity.ErrContradiction, identity.ErrContradiction, identity.ErrContradiction}
	w, crash := f.begin(t)
	f.Judge(t.Context(), crash)
	finish(t, w, spool.Outcome{Answered: true})
	f.Ended(crash)
	e := f.settled(t, crash.Entry)
	if _, err := e.ReadFile(spool.IdentityFile, 1<<16); err == nil || f.locator.asked > 2 {
		t.Errorf("asked %d times: %v", f.locator.asked, err)
	}
}

func TestNobodyIsAskedAboutAProcessThatMayBeAnother(t *testing.T) {
	f := newFixture(t)
	w, crash := f.begin(t)
	crash.Meta.Verified = false
	if v := f.Judge(t.Context(), crash); v.Action != capture.Keep {
		t.Errorf("%+v", v)
	}
	finish(t, w, spool.Outcome{Answered: true})
	f.Ended(crash)
	f.settled(t, crash.Entry)
	if f.locator.asked != 0 {
		t.Errorf("asked %d times", f.locator.asked)
	}
}

func TestADroppedDumpHasAnOwnerAndNoContext(t *testing.T) {
	f := newFixture(t)
	f.locator.who.Annotations = map[string]string{"coredump.example.io/capture": "disabled"}
	w, crash := f.begin(t)
	if v := f.Judge(t.Context(), crash); v.Action != capture.Drop || v.Reason != spool.ReasonOptedOut {
		t.Fatalf("%+v", v)
	}
	finish(t, w, spool.Outcome{Answered: true, Suppressed: spool.ReasonOptedOut})
	f.Ended(crash)
	e := f.settled(t, crash.Entry)
	if _, err := e.ReadFile(spool.IdentityFile, 1<<16); err != nil {
		t.Error(err)
	}
	if files, _ := e.ContextFiles(); len(files) != 0 {
		t.Errorf("%v", files)
	}
}

// corepipe does not wait for long. What it then takes alone is left alone by the uploader as long as somebody still works on it, and counted by who finds it.
func TestAnEntryIsAttendedFromTheQuestionOnAndALateVerdictIsTakenBack(t *testing.T) {
	f := newFixture(t)
	f.locator.wait = make(chan struct{})
	w, crash := f.begin(t)
	judged := make(chan struct{})
	go func() { defer close(judged); f.Judge(t.Context(), crash) }()
	for !f.Attended(crash.Entry) {
		time.Sleep(time.Millisecond) // until the goroutine above has begun
	}
	finish(t, w, spool.Outcome{Answered: false})
	close(f.locator.wait)
	<-judged
	f.Ended(crash)
	f.settled(t, crash.Entry)
	if c := f.judge.Counts(judge.Workload{Namespace: "shop", Kind: "Pod", Name: "checkout/" + podUID}); c.Kept != 0 || c.Suppressed != 0 || f.judge.Active() != 0 {
		t.Errorf("%+v, %d active: whoever finds the entry would count it again", c, f.judge.Active())
	}
}

func TestAKilledTakerLeavesNothingActiveAndNothingCounted(t *testing.T) {
	f := newFixture(t)
	w, crash := f.begin(t)
	f.Judge(t.Context(), crash)
	if f.judge.Active() != 1 {
		t.Fatal("not active")
	}
	w.Close() // as the kernel does
	f.Ended(crash)
	f.settled(t, crash.Entry)
	if c := f.judge.Counts(judge.Workload{Namespace: "shop", Kind: "Pod", Name: "checkout/" + podUID}); c.Kept != 0 || f.judge.Active() != 0 {
		t.Errorf("%+v, %d active", c, f.judge.Active())
	}
}

func TestWaitEndsWorkThatDoesNotEnd(t *testing.T) {
	f := newFixture(t)
	f.gathered = func(ctx context.Context) { <-ctx.Done() }
	w, crash := f.begin(t)
	f.Judge(t.Context(), crash)
	finish(t, w, spool.Outcome{Answered: true})
	f.Ended(crash)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.Wait(ctx)
	f.settled(t, crash.Entry)
}

func TestAPodGetsItsCopyOfACompleteDumpOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT PASSED: taking the rights of a process needs root")
	}
	for name, complete := range map[string]bool{"complete": true, "its taker was killed": false} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			root := onDisk(t)
			must(t, os.Mkdir(filepath.Join(root, "data"), 0o777))
			must(t, os.Chmod(filepath.Join(root, "data"), 0o777))
			f.locator.who.Annotations = map[string]string{podcopy.Key: "/data/core"}
			w, crash := f.begin(t)
			dir, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
			must(t, err)
			defer dir.Close()
			crash.Root = dir
			f.Judge(t.Context(), crash)
			if complete {
				finish(t, w, spool.Outcome{Answered: true})
			} else {
				core, err := w.CreateCore()
				must(t, err)
				_, err = core.WriteString("half")
				must(t, errors.Join(err, core.Close(), w.Close()))
			}
			f.Ended(crash)
			f.settled(t, crash.Entry)
			_, err = os.Stat(filepath.Join(root, "data/core"))
			if there := err == nil; there != complete {
				t.Errorf("copied %v: %v, told %v", there, err, f.teller.copied)
			}
			if complete && (len(f.teller.copied) != 1 || f.teller.copied[0] != nil) {
				t.Errorf("told %v", f.teller.copied)
			}
		})
	}
}

// onDisk is a directory that is not in memory, where copies are refused.
func onDisk(t *testing.T) string {
	t.Helper()
	for _, base := range []string{t.TempDir(), "."} {
		dir, err := os.MkdirTemp(base, "root")
		must(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		var st unix.Statfs_t
		must(t, unix.Statfs(dir, &st))
		if st.Type != unix.TMPFS_MAGIC {
			must(t, os.Chmod(dir, 0o755))
			return dir
		}
	}
	t.Skip("SKIPPED, NOT PASSED: all file systems here are in memory")
	return ""
}

func TestGroupsAreReadFromTheStatusOfTheProcess(t *testing.T) {
	for status, want := range map[string]int{"Name:\tx\nGroups:\t1 2 2000 \n": 3, "Groups:\n": 0, "": 0, "Groups:\t-1 x 4294967296 5\n": 1} {
		if got := groups(status); len(got) != want {
			t.Errorf("%q: %v", status, got)
		}
	}
	if id(-1) != 65534 || id(1<<32) != 65534 || id(7) != 7 {
		t.Error("what is no id is taken for one")
	}
	if !strings.HasPrefix(podcopy.Key, identity.AnnotationPrefix) {
		t.Error("the annotation would not be remembered")
	}
}
