// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/corefile/corefiletest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB) *Spool {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "spool"))
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// meta is one of a crash in this boot.
func meta() *Meta {
	return &Meta{Mode: "pipe", BootID: BootID(), HostPID: 7, StartTime: 5, CrashTime: 1_700_000_000_000_000_000, Verified: true}
}

func create(t testing.TB, s *Spool, m *Meta, core []byte) *Writer {
	t.Helper()
	w, err := s.Create(NewName(meta()))
	must(t, err)
	if m != nil {
		must(t, w.WriteMeta(m))
	}
	if core != nil {
		f, err := w.CreateCore()
		must(t, err)
		_, err = f.Write(core)
		must(t, errors.Join(err, f.Close()))
	}
	return w
}

func ready(t testing.TB, s *Spool) []string {
	t.Helper()
	names, err := s.Ready()
	must(t, err)
	return names
}

func TestAFinishedEntryIsReadyWithAllThatWasWritten(t *testing.T) {
	s := open(t)
	core := corefiletest.Core(1<<20, 1)
	w := create(t, s, meta(), core)
	if got := ready(t, s); len(got) != 0 {
		t.Fatalf("ready before it is finished: %v", got)
	}
	must(t, w.WriteFile(ContextDir+"/proc/maps", []byte("maps")))
	must(t, w.Finish(Outcome{Size: int64(len(core)), Site: "here"}))

	if got := ready(t, s); !slices.Equal(got, []string{w.Name()}) {
		t.Fatalf("ready: %v", got)
	}
	e, err := s.Entry(w.Name())
	must(t, err)
	defer e.Close()
	m, err := e.Meta()
	must(t, err)
	o, err := e.Outcome()
	must(t, err)
	if *m != *meta() || o.Site != "here" {
		t.Errorf("meta %+v, outcome %+v", m, o)
	}
	f, err := e.OpenCore()
	must(t, err)
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, core) {
		t.Errorf("the core is another: %v", err)
	}
	files, err := e.ContextFiles()
	must(t, err)
	if !slices.Equal(files, []string{"context/proc/maps"}) {
		t.Errorf("context: %v", files)
	}
}

func TestTheNodeHandlerWritesIntoAnEntryAlsoWhileItIsFinished(t *testing.T) {
	s := open(t)
	w := create(t, s, meta(), []byte("x"))
	e, err := s.Entry(w.Name())
	must(t, err)
	defer e.Close()
	must(t, e.WriteFile(IdentityFile, []byte("{}")))
	must(t, w.Finish(Outcome{Size: 1}))
	must(t, e.WriteFile(ContextDir+"/pod.json", []byte("pod")))
	again, err := s.Entry(w.Name())
	must(t, err)
	defer again.Close()
	for name, want := range map[string]string{IdentityFile: "{}", ContextDir + "/pod.json": "pod"} {
		if b, err := again.ReadFile(name, 100); err != nil || string(b) != want {
			t.Errorf("%s is %q, %v", name, b, err)
		}
	}
	must(t, s.Remove(w.Name()))
	if err := e.WriteFile("late", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("writing into a removed entry: %v", err)
	}
}

func TestADirectoryThatOthersCanUseIsRefused(t *testing.T) {
	for what, spoil := range map[string]func(path string) error{
		"mode 0750":    func(p string) error { return errors.Join(os.Mkdir(p, 0o700), os.Chmod(p, 0o750)) },
		"mode 0701":    func(p string) error { return errors.Join(os.Mkdir(p, 0o700), os.Chmod(p, 0o701)) },
		"a link":       func(p string) error { return errors.Join(os.Mkdir(p+"x", 0o700), os.Symlink(p+"x", p)) },
		"a file":       func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"a FIFO":       func(p string) error { return unix.Mkfifo(p, 0o600) },
		"a linked dir": func(p string) error { return errors.Join(os.Mkdir(p, 0o700), os.Symlink("/tmp", p+"/ready")) },
		"an open dir": func(p string) error {
			return errors.Join(os.Mkdir(p, 0o700), os.Mkdir(p+"/aside", 0o700), os.Chmod(p+"/aside", 0o777))
		},
	} {
		path := filepath.Join(t.TempDir(), "spool")
		must(t, spoil(path))
		if s, err := Open(path); !errors.Is(err, ErrUnsafe) {
			t.Errorf("%s: %v", what, err)
			if err == nil {
				s.Close()
			}
		}
	}
}

func TestANameThatIsNoneIsRefused(t *testing.T) {
	s := open(t)
	for _, name := range []string{"", ".", "..", ".x", "-x", "a/b", "../x", "A", "a b", "a\x00", "ü", string(bytes.Repeat([]byte("a"), 129))} {
		_, create := s.Create(name)
		_, entry := s.Entry(name)
		for what, err := range map[string]error{"Create": create, "Entry": entry, "Remove": s.Remove(name), "SetAside": s.SetAside(name, "")} {
			if !errors.Is(err, ErrName) {
				t.Errorf("%s of %q: %v", what, name, err)
			}
		}
	}
}

func TestAFileThatIsNoneIsNotRead(t *testing.T) {
	s := open(t)
	w := create(t, s, meta(), nil)
	defer w.Close()
	dir := filepath.Join(s.Path(), incomingDir, w.Name())
	must(t, os.WriteFile(filepath.Join(s.Path(), "secret"), []byte("secret"), 0o600))
	must(t, os.Symlink("../../secret", filepath.Join(dir, IdentityFile)))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "long"), make([]byte, 101), 0o600))
	for _, name := range []string{IdentityFile, "fifo", "long", "../../secret", ContextDir} {
		if b, err := w.ReadFile(name, 100); err == nil {
			t.Errorf("%s: read %q", name, b)
		}
	}
}

func TestARemovedEntryIsGoneAndOneSetAsideIsKept(t *testing.T) {
	s := open(t)
	a, b := create(t, s, meta(), []byte("a")), create(t, s, meta(), []byte("b"))
	must(t, a.Finish(Outcome{Size: 1}))
	must(t, b.Finish(Outcome{Size: 1}))
	must(t, s.Remove(a.Name()))
	must(t, s.SetAside(b.Name(), "because"))
	if got := ready(t, s); len(got) != 0 {
		t.Errorf("ready: %v", got)
	}
	if _, err := s.Entry(a.Name()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the removed entry: %v", err)
	}
	why, err := os.ReadFile(filepath.Join(s.Path(), asideDir, b.Name(), whyFile))
	if err != nil || string(why) != "because\n" {
		t.Errorf("why: %q, %v", why, err)
	}
	if aside, err := s.Aside(); err != nil || len(aside) != 1 {
		t.Errorf("aside: %v, %v", aside, err)
	}
}

func TestADiscardedEntryLeavesNothing(t *testing.T) {
	s := open(t)
	must(t, create(t, s, meta(), []byte("x")).Discard())
	if u, err := s.Usage(); err != nil || u.Entries != 0 {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestUsageCountsBlocksAndNotHoles(t *testing.T) {
	s := open(t)
	w := create(t, s, meta(), make([]byte, 1<<20))
	f, err := w.CreateCore()
	must(t, err)
	must(t, f.Truncate(1<<40))
	_, err = f.WriteAt(bytes.Repeat([]byte{1}, 1<<20), 1<<39)
	must(t, errors.Join(err, f.Sync(), f.Close()))
	must(t, w.Finish(Outcome{Size: 1 << 40}))
	u, err := s.Usage()
	must(t, err)
	if u.Entries != 1 || u.Bytes < 1<<20 || u.Bytes > 3<<20 {
		t.Errorf("%+v", u)
	}
}

func TestP17_RoomIsTheLeastThatAnyLimitLeaves(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		limits       Limits
		used         Usage
		free, inodes int64
		countsInodes bool
		wantBytes    int64
		wantEntry    bool
		what         string
	}{
		{Limits{}, Usage{5 * gib, 5}, 3 * gib, 100, true, 3 * gib, true, "no limits"},
		{Limits{FreeBytes: 2 * gib}, Usage{}, 3 * gib, 100, true, gib, true, "what stays free"},
		{Limits{FreeBytes: 4 * gib}, Usage{}, 3 * gib, 100, true, 0, true, "less free than that: dropped dumps are still noted"},
		{Limits{Bytes: 4 * gib}, Usage{3 * gib, 1}, 9 * gib, 100, true, gib, true, "the spool's bytes"},
		{Limits{Bytes: 4 * gib}, Usage{5 * gib, 1}, 9 * gib, 100, true, 0, true, "more than the spool's bytes"},
		{Limits{Entries: 5}, Usage{0, 5}, 9 * gib, 100, true, 0, false, "as many entries as there may be"},
		{Limits{FreeInodes: 101}, Usage{}, 9 * gib, 100, true, 0, false, "too few inodes"},
		{Limits{FreeInodes: 101}, Usage{}, 9 * gib, 0, false, 9 * gib, true, "a file system without a number of inodes"},
		{Limits{}, Usage{}, 1000, 100, true, 0, false, "a full disk"},
	} {
		got := room(c.limits, c.used, c.free, c.inodes, c.countsInodes)
		if got.Entry != c.wantEntry || got.Bytes != c.wantBytes {
			t.Errorf("%s: %+v", c.what, got)
		}
	}
}

func TestSlotsAreTakenOncePerHolderAndFreedByIt(t *testing.T) {
	s := open(t)
	var releases []func()
	for range 2 {
		release, ok, err := s.Slot(2)
		must(t, err)
		if !ok {
			t.Fatal("no slot")
		}
		releases = append(releases, release)
	}
	if _, ok, err := s.Slot(2); ok || err != nil {
		t.Fatalf("a third of two slots: %v", err)
	}
	releases[0]()
	release, ok, err := s.Slot(2)
	if !ok || err != nil {
		t.Fatalf("a freed slot was not given again: %v", err)
	}
	release()
	releases[1]()
}

func FuzzRecordsOfTheSpool(f *testing.F) {
	f.Add(encode(meta()))
	f.Add(encode(&Outcome{Size: 5, PromisedSize: 7, Truncated: ReasonKilled}))
	f.Add([]byte(`{"mode":"pipe","hostPID":1e3}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := DecodeMeta(b); err == nil {
			again, err := DecodeMeta(encode(m))
			if err != nil || *again != *m {
				t.Errorf("%+v became %+v, %v", m, again, err)
			}
		} else if !errors.Is(err, ErrRecord) {
			t.Error(err)
		}
		if o, err := DecodeOutcome(b); err == nil {
			again, err := DecodeOutcome(encode(o))
			if err != nil || *again != *o {
				t.Errorf("%+v became %+v, %v", o, again, err)
			}
		} else if !errors.Is(err, ErrRecord) {
			t.Error(err)
		}
	})
}

func TestP17_APodThatCrashesInALoopLeavesRoomForOthers(t *testing.T) {
	s := open(t)
	of := func(pod string) *Meta {
		m := meta()
		m.Cgroup = "0::/kubepods/pod" + pod + "-89ab-cdef-0123-456789abcdef/" + strings.Repeat("a", 64) + "\n"
		return m
	}
	loop, other, nobody := of("00000001"), of("00000002"), meta()
	nobody.Cgroup = "0::/../x\n"
	limits := Limits{Bytes: 8 << 20, Entries: 100}
	crash := func(m *Meta) bool {
		name := NewName(m)
		room, err := s.RoomFor(limits, name)
		must(t, err)
		if room.Bytes < 1<<20 {
			return false
		}
		w, err := s.Create(name)
		must(t, err)
		must(t, w.WriteMeta(m))
		f, err := w.CreateCore()
		must(t, err)
		_, err = f.Write(bytes.Repeat([]byte{1}, 1<<20))
		must(t, errors.Join(err, f.Close()))
		if again, err := s.RoomFor(limits, name); err != nil || again.Bytes >= room.Bytes {
			t.Fatalf("%+v before, %+v after it was written, %v", room, again, err)
		}
		must(t, w.Finish(Outcome{Size: 1 << 20}))
		return true
	}
	if room, err := s.RoomFor(limits, NewName(loop)); err != nil || room.Bytes != limits.Bytes {
		t.Fatalf("the first dump has %+v, %v: must have all", room, err)
	}
	n := 0
	for crash(loop) {
		n++
	}
	if n < 2 || n > 4 {
		t.Errorf("%d of the one that crashes in a loop are kept", n)
	}
	if !crash(other) || !crash(nobody) {
		t.Error("there is no room for others")
	}
}

func TestWhatIsLostIsCountedOnce(t *testing.T) {
	s := open(t)
	for _, want := range []uint64{0, 40, 0} {
		var all sync.WaitGroup
		for range want {
			all.Go(func() { must(t, s.Lost()) })
		}
		all.Wait()
		if got, err := s.TakeLost(); err != nil || got != want {
			t.Errorf("%d, %v: want %d", got, err, want)
		}
	}
	must(t, os.WriteFile(filepath.Join(s.Path(), lostFile), []byte{1}, 0o600)) // half written
	if _, err := s.TakeLost(); err != nil {
		t.Error(err)
	}
}
