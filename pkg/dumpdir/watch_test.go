// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package dumpdir

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/corefile/corefiletest"
	"example.io/coredump/pkg/upload"
)

// patience is how long tests wait for what must happen. It is never waited for in vain when they pass.
const patience = 30 * time.Second

// watched is a watcher that runs, and what it has offered.
type watched struct {
	*Watcher
	dir  string
	stop func()

	mu      sync.Mutex
	offered map[string]upload.Dump
	full    bool
}

func watchDir(t *testing.T, dir string, opts Options) *watched {
	t.Helper()
	root, err := OpenRoot(dir)
	must(t, err)
	if opts.Rules.Template == nil {
		opts.Rules.Template, err = ParseTemplate("core.%p")
		must(t, err)
	}
	if opts.Rules.MaxSize == 0 {
		opts.Rules.MaxSize = 1 << 40
	}
	if opts.Settle == 0 {
		opts.Settle = 100 * time.Millisecond
	}
	if opts.Rescan == 0 {
		opts.Rescan = time.Hour
	}
	w := &watched{Watcher: NewWatcher(root, opts), dir: dir, offered: map[string]upload.Dump{}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx, w.offer) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		root.Close()
	})
	t.Cleanup(w.stop)
	w.eventually(t, "the first scan", w.Scanned)
	return w
}

func (w *watched) offer(d upload.Dump) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.full {
		w.offered[d.Path()] = d
	}
	return !w.full
}

func (w *watched) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come to %s; offered: %.2000q", what, w.paths())
		}
	}
}

func (w *watched) paths() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.offered))
}

// takes waits until the file is offered, and gives the dump.
func (w *watched) takes(t *testing.T, name string) upload.Dump {
	t.Helper()
	w.eventually(t, "an offer of "+name, func() bool { return slices.Contains(w.paths(), name) })
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.offered[name]
}

// idle waits until nothing is being waited for.
func (w *watched) idle(t *testing.T) {
	t.Helper()
	w.eventually(t, "rest", func() bool {
		w.Watcher.mu.Lock()
		defer w.Watcher.mu.Unlock()
		return len(w.waiting) == 0
	})
}

func core(size int) []byte { return corefiletest.Core(size, uint64(size)) }

func zipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(data)
	must(t, errors.Join(err, z.Close()))
	return b.Bytes()
}

func TestFilesThatWereThereBeforeAndThatComeAreFound(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "ns/pod/c/core.1"), core(5000))
	w := watchDir(t, dir, Options{})
	w.takes(t, "ns/pod/c/core.1")
	write(t, filepath.Join(dir, "ns/pod/c/core.2"), core(5000))
	w.takes(t, "ns/pod/c/core.2")
	write(t, filepath.Join(dir, "new/pod/c/core.3"), core(5000))
	w.takes(t, "new/pod/c/core.3")
	write(t, filepath.Join(dir, "new/pod/c/core.4.gz"), zipped(t, core(5000)))
	w.takes(t, "new/pod/c/core.4.gz")
	// A file, and a directory, that come by being renamed.
	write(t, filepath.Join(dir, "new/pod/c/tmp"), core(5000))
	must(t, os.Rename(filepath.Join(dir, "new/pod/c/tmp"), filepath.Join(dir, "new/pod/c/core.5")))
	w.takes(t, "new/pod/c/core.5")
	must(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "renamed")))
	w.takes(t, "renamed/pod/c/core.3")
	w.idle(t)
	write(t, filepath.Join(dir, "renamed/pod/c/core.6"), core(5000))
	w.takes(t, "renamed/pod/c/core.6")
}

func TestFilesInDirectoriesThatAppearTogetherAreFound(t *testing.T) {
	w := watchDir(t, t.TempDir(), Options{})
	var want []string
	for i := range 200 {
		name := "ns/pod" + strings.Repeat("x", i%50) + "/c/deep/er/core." + strings.Repeat("1", i/50+1)
		write(t, filepath.Join(w.dir, name), core(1000))
		want = append(want, name)
	}
	slices.Sort(want)
	w.eventually(t, "an offer of each", func() bool { return slices.Equal(w.paths(), want) })
}

func TestW7_AFileIsTakenWhenItsWriterHasClosedIt(t *testing.T) {
	w := watchDir(t, t.TempDir(), Options{Settle: time.Hour})
	data := core(100_000)
	f, err := os.Create(filepath.Join(w.dir, "core.1"))
	must(t, err)
	_, err = f.Write(data[:50_000])
	must(t, err)
	looked := func() bool { // it was looked at in the state that it is in
		info, err := f.Stat()
		must(t, err)
		w.Watcher.mu.Lock()
		defer w.Watcher.mu.Unlock()
		c := w.waiting["core.1"]
		return c != nil && c.state.size == info.Size() && c.writer == writerOpen
	}
	w.rules.Defaults = Claim{"ns", "pod", "c"}
	w.eventually(t, "a look at half of it", looked)
	_, err = f.Write(data[50_000:])
	must(t, err)
	w.eventually(t, "a look at all of it", looked)
	if got := w.paths(); len(got) != 0 {
		t.Fatalf("taken while it is being written: %q", got)
	}
	must(t, f.Close())
	w.takes(t, "core.1")
}

func TestACoreThatEndsEarlyIsTakenAfterResting(t *testing.T) {
	w := watchDir(t, t.TempDir(), Options{})
	write(t, filepath.Join(w.dir, "ns/pod/c/core.1"), core(100_000)[:60_000])
	o, err := w.takes(t, "ns/pod/c/core.1").Open()
	must(t, err)
	defer o.File.Close()
	if o.Size != 60_000 || o.Record.Status.PromisedSize != 100_000 {
		t.Errorf("%d bytes of %d", o.Size, o.Record.Status.PromisedSize)
	}
}

// TestW14_HostileFilesStayAsTheyAre also looks at owners and rights: nothing is changed by a name.
func TestW14_HostileFilesStayAsTheyAre(t *testing.T) {
	dir := t.TempDir()
	reasons := hostile(t, dir)
	write(t, filepath.Join(dir, "notes.txt"), []byte("no name of the template"))
	reasons["notes.txt"] = ignored
	before, rights := names(t, dir), rightsOf(t, dir)
	w := watchDir(t, dir, Options{})
	w.eventually(t, "a report of each", func() bool {
		for name, reason := range reasons {
			if _, ok := w.report.seen.Get(report{name, reason}); !ok {
				return false
			}
		}
		return true
	})
	w.idle(t)
	w.stop()
	after := slices.DeleteFunc(names(t, dir), func(name string) bool { return strings.HasSuffix(name, AsideDir) })
	if len(w.paths()) != 0 || !slices.Equal(before, after) {
		t.Errorf("offered %q; there were %q, there are %q", w.paths(), before, after)
	}
	if after := rightsOf(t, dir); !maps.Equal(rights, after) {
		t.Errorf("there were %v, there are %v", rights, after)
	}
}

// rightsOf gives mode, owner and number of names of everything in the directory that is not ours.
func rightsOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	rights := map[string]string{}
	for _, name := range names(t, dir) {
		var st unix.Stat_t
		must(t, unix.Lstat(name, &st))
		if name != dir && filepath.Base(name) != AsideDir {
			rights[name] = fmt.Sprintf("%o %d:%d %d", st.Mode, st.Uid, st.Gid, st.Nlink)
		}
	}
	return rights
}

func TestW6_AFileThatClaimsToBeHugeIsSetAsideUnread(t *testing.T) {
	w := watchDir(t, t.TempDir(), Options{Rules: Rules{MaxSize: 1 << 30}})
	// Made outside of the directory: as it grows it is a complete core for a moment.
	name := filepath.Join(t.TempDir(), "huge")
	write(t, name, core(1000))
	must(t, os.Truncate(name, 8<<40)) // ext4 allows 16 TiB
	must(t, os.MkdirAll(filepath.Join(w.dir, "ns/pod/c"), 0o755))
	must(t, os.Rename(name, filepath.Join(w.dir, "ns/pod/c/core.1")))
	w.eventually(t, "it set aside", func() bool {
		notes, _ := filepath.Glob(filepath.Join(w.dir, ".aside/*.json"))
		return len(notes) == 1
	})
	if got := w.paths(); len(got) != 0 {
		t.Errorf("offered: %q", got)
	}
}

func TestW10_NamesOfALargeDirectoryAreReadInSteps(t *testing.T) {
	r, dir := openRoot(t)
	const n = 3*walkStep + 1
	for i := range n {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("core.%d", i+1)), nil, 0o600))
	}
	seen := &visited{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	must(t, r.walk(ctx, ".", seen))
	if len(seen.entries) != n {
		t.Errorf("%d of %d", len(seen.entries), n)
	}
	// It ends between steps: no list of all names was made first.
	cancelling := &cancels{cancel: cancel}
	if err := r.walk(ctx, ".", cancelling); err == nil || len(cancelling.entries) > walkStep {
		t.Errorf("%d entries after its end, %v", len(cancelling.entries), err)
	}
}

// cancels ends a walk at its first entry.
type cancels struct {
	visited
	cancel func()
}

func (c *cancels) entry(name string) { c.cancel(); c.visited.entry(name) }

func TestW12_WhatCannotBeUploadedIsSetAside(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"ns/pod/c/core.1":    []byte("text"),
		"ns/pod/c/core.2":    {},
		"ns/pod/c/core.3.gz": core(1000),
		"ns/pod/c/core.4.gz": zipped(t, []byte("text")),
		"ns/pod/c/core.5":    core(70_000),
		"ns/pod/core.6":      core(1000),
		"NS/pod/c/core.7":    core(1000),
	} {
		write(t, filepath.Join(dir, name), data)
	}
	w := watchDir(t, dir, Options{Rules: Rules{MaxSize: 60_000}})
	w.eventually(t, "seven files set aside", func() bool {
		notes, _ := filepath.Glob(filepath.Join(dir, ".aside/*.json"))
		return len(notes) == 7
	})
	w.idle(t)
	if got := w.paths(); len(got) != 0 {
		t.Errorf("offered: %q", got)
	}
}

func TestW10_LostEventsAreMadeUpForByAScan(t *testing.T) {
	w := watchDir(t, t.TempDir(), Options{})
	must(t, os.Mkdir(filepath.Join(w.dir, "blind"), 0o755))
	watched := func() bool { return slices.Contains(w.notify.WatchList(), filepath.Join(w.dir, "blind")) }
	w.eventually(t, "a watch", watched)
	must(t, w.notify.Remove(filepath.Join(w.dir, "blind")))
	write(t, filepath.Join(w.dir, "blind/pod/c/core.1"), core(1000))
	w.notify.Errors <- fsnotify.ErrEventOverflow
	w.takes(t, "blind/pod/c/core.1")
	w.eventually(t, "a watch again", watched)
}

func TestScansFindWhatEventsDoNotTell(t *testing.T) {
	w := watchDir(t, t.TempDir(), Options{Rescan: 50 * time.Millisecond})
	must(t, w.notify.Remove(w.dir))
	write(t, filepath.Join(w.dir, "ns/pod/c/core.1"), core(1000))
	w.takes(t, "ns/pod/c/core.1")
}

func TestWhatIsNotTakenIsOfferedAgain(t *testing.T) {
	w := watchDir(t, t.TempDir(), Options{})
	w.mu.Lock()
	w.full = true
	w.mu.Unlock()
	write(t, filepath.Join(w.dir, "ns/pod/c/core.1"), core(1000))
	w.eventually(t, "a look", func() bool {
		w.Watcher.mu.Lock()
		defer w.Watcher.mu.Unlock()
		c := w.waiting["ns/pod/c/core.1"]
		return c != nil && c.complete
	})
	w.mu.Lock()
	w.full = false
	w.mu.Unlock()
	w.takes(t, "ns/pod/c/core.1")
}

func TestW8_ADumpThatChangesIsNotOpenedButOfferedAgain(t *testing.T) {
	w := watchDir(t, t.TempDir(), Options{})
	name := filepath.Join(w.dir, "ns/pod/c/core.1")
	write(t, name, core(1000))
	first := w.takes(t, "ns/pod/c/core.1")
	a, err := first.Open()
	must(t, err)
	must(t, a.File.Close())
	w.mu.Lock()
	clear(w.offered)
	w.mu.Unlock()
	waitForClock(t, w.dir)
	must(t, os.WriteFile(name, core(2000), 0o600))
	if _, err := first.Open(); !errors.Is(err, upload.ErrChanged) {
		t.Fatalf("open: %v", err)
	}
	first.Recheck()
	b, err := w.takes(t, "ns/pod/c/core.1").Open()
	must(t, err)
	must(t, b.File.Close())
	if a.ID == b.ID || b.Size != 2000 {
		t.Errorf("%q of %d bytes, then %q of %d bytes", a.ID, a.Size, b.ID, b.Size)
	}
}

func TestADumpHasTheSameIDAfterARestart(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "ns/pod/c/core.1"), core(1000))
	id := func() string {
		w := watchDir(t, dir, Options{})
		defer w.stop()
		o, err := w.takes(t, "ns/pod/c/core.1").Open()
		must(t, err)
		defer o.File.Close()
		return o.ID
	}
	if a, b := id(), id(); a != b {
		t.Errorf("%s, then %s", a, b)
	}
}

func TestADumpThatIsRemovedIsGone(t *testing.T) {
	w := watchDir(t, t.TempDir(), Options{})
	name := filepath.Join(w.dir, "ns/pod/c/core.1")
	write(t, name, core(1000))
	d := w.takes(t, "ns/pod/c/core.1")
	must(t, os.Remove(name))
	if _, err := d.Open(); !errors.Is(err, upload.ErrGone) {
		t.Error(err)
	}
}

func TestW11_TheRecordSaysWhatTheNameSaysAndThatItIsAClaim(t *testing.T) {
	template, err := ParseTemplate("core-%e-%t-%p-%s-%P-%u")
	must(t, err)
	w := watchDir(t, t.TempDir(), Options{Rules: Rules{Template: template, NodeName: "n1", Version: "v1"}})
	write(t, filepath.Join(w.dir, "ns/pod/c/core-a\x1bb-1700000000-7-6-4711-1000"), core(1000))
	o, err := w.takes(t, "ns/pod/c/core-a\x1bb-1700000000-7-6-4711-1000").Open()
	must(t, err)
	defer o.File.Close()
	spec, p := o.Record.Spec, o.Record.Spec.Process
	if o.Record.Namespace != "ns" || spec.PodName != "pod" || spec.ContainerName != "c" || spec.Capture.Mode != "file" || spec.Capture.Identity != "claimed" ||
		spec.Capture.File != `"ns/pod/c/core-a\x1bb-1700000000-7-6-4711-1000"` || spec.Capture.Handler != "v1" {
		t.Errorf("%+v", spec)
	}
	if p.Executable != "a?b" || p.Comm != "a?b" || p.PID != 7 || p.HostPID != 4711 || *p.UID != 1000 || p.Signal != 6 || p.SignalName != "SIGABRT" || p.Time.Unix() != 1700000000 {
		t.Errorf("%+v", p)
	}
	if !strings.HasPrefix(o.ID, "20231114t221320z-") {
		t.Errorf("id %s", o.ID)
	}
}

func TestARemovedDirectoryEndsTheWatcher(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dumps")
	must(t, os.Mkdir(dir, 0o755))
	root, err := OpenRoot(dir)
	must(t, err)
	defer root.Close()
	template, err := ParseTemplate("core")
	must(t, err)
	w := NewWatcher(root, Options{Rules: Rules{Template: template}, Settle: time.Second, Rescan: time.Hour})
	done := make(chan error)
	go func() { done <- w.Run(t.Context(), func(upload.Dump) bool { return true }) }()
	for !w.Scanned() {
		time.Sleep(time.Millisecond)
	}
	must(t, os.Rename(dir, dir+"x"))
	if err := <-done; err == nil || !strings.Contains(err.Error(), "removed or renamed") {
		t.Error(err)
	}
}

func TestOneHandlerAtATimeHasTheDirectory(t *testing.T) {
	dir := t.TempDir()
	first, err := OpenRoot(dir)
	must(t, err)
	must(t, first.Lock(t.Context()))
	second, err := OpenRoot(dir)
	must(t, err)
	defer second.Close()
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := second.Lock(short); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), dir) {
		t.Errorf("the second: %v", err)
	}
	must(t, first.Close())
	must(t, second.Lock(t.Context()))
}

func TestW10_APodMayNotBeLookedIntoForEver(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, strings.Repeat("d/", maxDepth))
	write(t, filepath.Join(deep, "core.1"), core(1000))
	write(t, filepath.Join(deep, "d/core.2"), core(1000))
	w := watchDir(t, dir, Options{Rules: Rules{Defaults: Claim{"ns", "pod", "c"}}})
	w.takes(t, strings.Repeat("d/", maxDepth)+"core.1")
	w.idle(t)
	if got := w.paths(); len(got) != 1 {
		t.Errorf("offered %q", got)
	}
}
