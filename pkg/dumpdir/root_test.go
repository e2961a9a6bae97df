// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package dumpdir

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/upload"
)

func openRoot(t *testing.T) (*Root, string) {
	t.Helper()
	dir := t.TempDir()
	r, err := OpenRoot(dir)
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r, dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, data, 0o600))
}

// hostile makes one of every kind of file that must not be opened, all with names of the template core.%p, and gives the reasons.
func hostile(t *testing.T, dir string) map[string]RefusalReason {
	t.Helper()
	outside := filepath.Join(t.TempDir(), "secret")
	write(t, outside, []byte("secret"))
	write(t, filepath.Join(dir, "other/pod/c/core.1"), []byte("another tenant's"))
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.Symlink(outside, at("core.2")))
	must(t, os.Symlink("other/pod/c/core.1", at("core.3")))
	must(t, os.Symlink(t.TempDir(), at("linked")))
	must(t, os.Link(at("other/pod/c/core.1"), at("core.4")))
	must(t, unix.Mkfifo(at("core.5"), 0o666))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: at("core.6")}))
	must(t, os.Mkdir(at("core.7"), 0o755))
	reasons := map[string]RefusalReason{
		"core.2": RefusedSymlink, "core.3": RefusedSymlink, "core.4": RefusedHardLink, "other/pod/c/core.1": RefusedHardLink,
		"core.5": RefusedFIFO, "core.6": RefusedSocket,
	}
	if err := unix.Mknod(at("core.8"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err == nil { // /dev/zero; needs root
		reasons["core.8"] = RefusedDevice
	}
	return reasons
}

// wantRefused opens names of a directory with every kind of hostile file, and wants each refused for its reason.
func wantRefused(t *testing.T, names map[string]RefusalReason) {
	t.Helper()
	r, dir := openRoot(t)
	reasons := hostile(t, dir)
	for name, want := range names {
		if want == RefusedDevice && reasons[name] == "" {
			t.Log("NOT TESTED: device nodes need root")
			continue
		}
		f, err := r.Open(name)
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Reason != want {
			t.Errorf("%s: %v, %v; want it refused as %s", name, f, err, want)
		}
	}
}

func TestW1_NoLinkIsFollowed(t *testing.T) {
	wantRefused(t, map[string]RefusalReason{
		"core.2": RefusedSymlink, "core.3": RefusedSymlink, "linked/core.1": RefusedSymlink,
		"other/../../core.9": RefusedMount, // out of the directory
	})
}

func TestW2_AFileWithAnotherNameMayBeAnothers(t *testing.T) {
	wantRefused(t, map[string]RefusalReason{"core.4": RefusedHardLink, "other/pod/c/core.1": RefusedHardLink})
}

func TestW3_AFIFOIsNotWaitedFor(t *testing.T) {
	wantRefused(t, map[string]RefusalReason{"core.5": RefusedFIFO})
}

func TestW4_NoDriverIsAsked(t *testing.T) {
	wantRefused(t, map[string]RefusalReason{"core.8": RefusedDevice})
}

func TestW5_WhatIsNoFileIsNotOpened(t *testing.T) {
	wantRefused(t, map[string]RefusalReason{"core.6": RefusedSocket, "core.7": RefusedDirectory})
}

func TestWhatIsNotThereIsNotRefused(t *testing.T) {
	r, dir := openRoot(t)
	hostile(t, dir)
	for _, name := range []string{"core.9", "no/such/dir/core.9", "core.4/core.9"} {
		if _, err := r.Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestW15_AnotherFileSystemIsNotEntered mounts one where a tenant's mount could appear.
func TestW15_AnotherFileSystemIsNotEntered(t *testing.T) {
	r, dir := openRoot(t)
	mounted := filepath.Join(dir, "ns")
	must(t, os.Mkdir(mounted, 0o755))
	if err := unix.Mount("tmpfs", mounted, "tmpfs", 0, ""); err != nil {
		t.Skip("NOT TESTED: mounting is not allowed here: ", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(mounted, unix.MNT_DETACH)) })
	write(t, filepath.Join(mounted, "core.1"), core(1000))
	var refusal *Refusal
	if _, err := r.Open("ns/core.1"); !errors.As(err, &refusal) || refusal.Reason != RefusedMount {
		t.Errorf("%v", err)
	}
	seen := &visited{}
	must(t, r.walk(t.Context(), ".", seen))
	if slices.Contains(seen.entries, "ns/core.1") || !slices.Contains(seen.bad, "ns") {
		t.Errorf("the walk went in: %+v", seen)
	}
}

// visited is what a walk met.
type visited struct{ entries, bad []string }

func (v *visited) directory(string)                  {}
func (v *visited) entry(name string)                 { v.entries = append(v.entries, name) }
func (v *visited) unreadable(name string, err error) { v.bad = append(v.bad, name) }

func TestW16_ALeaseHoldsNobodyUp(t *testing.T) {
	r, dir := openRoot(t)
	name := filepath.Join(dir, "core.1")
	write(t, name, core(1000))
	holder, err := os.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	defer holder.Close()
	if _, err := unix.FcntlInt(holder.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skip("NOT TESTED: no leases on this file system: ", err)
	}
	// Without O_NONBLOCK it would take fs.lease-break-time, 45 s, and the test would be noticed by that.
	if _, err := r.Open("core.1"); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("%v", err)
	}
}

func TestW9_AnyNameCanBeOpenedAndRemoved(t *testing.T) {
	r, dir := openRoot(t)
	for _, name := range []string{"core\n1", "core\x1b[31m", "core\xff", "-rf", "%2e%2e", "a b/c\td/core", strings.Repeat("x", 255)} {
		write(t, filepath.Join(dir, name), []byte(name))
		f, err := r.Open(name)
		must(t, err)
		if data, err := io.ReadAll(f); err != nil || string(data) != name {
			t.Errorf("%q: %q, %v", name, data, err)
		}
		must(t, f.Remove())
		must(t, f.Close())
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q is still there: %v", name, err)
		}
	}
}

func TestW8_AFileThatChangesIsNotRemoved(t *testing.T) {
	for what, change := range map[string]func(t *testing.T, name string){
		"written":   func(t *testing.T, name string) { must(t, os.WriteFile(name, []byte("other"), 0)) },
		"truncated": func(t *testing.T, name string) { must(t, os.Truncate(name, 1)) },
		"renamed":   func(t *testing.T, name string) { must(t, os.Rename(name, name+"x")) },
		"linked":    func(t *testing.T, name string) { must(t, os.Link(name, name+"x")) },
		"touched":   func(t *testing.T, name string) { must(t, os.Chtimes(name, time.Unix(1, 0), time.Unix(1, 0))) },
		"replaced by a link to another file": func(t *testing.T, name string) {
			write(t, name+"y", []byte("victim"))
			must(t, os.Rename(name, name+"x"))
			must(t, os.Symlink(name+"y", name))
		},
		"replaced by another file": func(t *testing.T, name string) {
			write(t, name+"y", []byte("victim"))
			must(t, os.Rename(name+"y", name))
		},
	} {
		t.Run(what, func(t *testing.T) {
			r, dir := openRoot(t)
			name := filepath.Join(dir, "ns/pod/c/core")
			write(t, name, []byte("dump!"))
			f, err := r.Open("ns/pod/c/core")
			must(t, err)
			defer f.Close()
			waitForClock(t, dir)
			change(t, name)
			before := names(t, dir)
			if err := f.Remove(); !errors.Is(err, upload.ErrChanged) {
				t.Errorf("remove: %v", err)
			}
			if err := f.SetAside(upload.ReasonNotCore, "why"); !errors.Is(err, upload.ErrChanged) {
				t.Errorf("set aside: %v", err)
			}
			if after := names(t, dir); !slices.Equal(before, after) {
				t.Errorf("there were %q, there are %q", before, after)
			}
		})
	}
}

// waitForClock waits until the file system's clock, which is coarse, has moved on.
func waitForClock(t *testing.T, dir string) {
	t.Helper()
	var first, now unix.Stat_t
	probe := filepath.Join(t.TempDir(), "probe")
	for first.Ctim == now.Ctim {
		must(t, os.WriteFile(probe, nil, 0o600))
		must(t, unix.Stat(probe, &now))
		must(t, os.Remove(probe))
		if first.Ctim.Nano() == 0 {
			first = now
		}
	}
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		list = append(list, name)
		return err
	}))
	return list
}

func TestW13_ADirectorySwappedForALinkLeadsNowhere(t *testing.T) {
	r, dir := openRoot(t)
	victim := filepath.Join(dir, "victim/core")
	write(t, victim, []byte("another tenant's"))
	write(t, filepath.Join(dir, "mine/core"), []byte("dump!"))
	f, err := r.Open("mine/core")
	must(t, err)
	defer f.Close()
	must(t, os.Rename(filepath.Join(dir, "mine"), filepath.Join(dir, "moved")))
	must(t, os.Symlink("victim", filepath.Join(dir, "mine")))
	must(t, f.Remove()) // the file that was opened, where it is now
	if _, err := os.Stat(victim); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "moved/core")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestW8_AFileThatIsCutOffWhileItIsReadIsChanged(t *testing.T) {
	r, dir := openRoot(t)
	write(t, filepath.Join(dir, "core"), make([]byte, 1000))
	f, err := r.Open("core")
	must(t, err)
	defer f.Close()
	must(t, os.Truncate(filepath.Join(dir, "core"), 500))
	if n, err := io.Copy(io.Discard, f); n != 500 || !errors.Is(err, upload.ErrChanged) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestW7_AFileThatGrowsYieldsWhatItHad(t *testing.T) {
	r, dir := openRoot(t)
	write(t, filepath.Join(dir, "core"), make([]byte, 1000))
	f, err := r.Open("core")
	must(t, err)
	defer f.Close()
	must(t, os.Truncate(filepath.Join(dir, "core"), 5000))
	if n, err := io.Copy(io.Discard, f); n != 1000 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := f.Unchanged(); !errors.Is(err, upload.ErrChanged) {
		t.Error(err)
	}
}

func TestWhatIsSetAsideIsKeptWithANote(t *testing.T) {
	r, dir := openRoot(t)
	write(t, filepath.Join(dir, "ns/core\n"), []byte("text"))
	f, err := r.Open("ns/core\n")
	must(t, err)
	defer f.Close()
	must(t, f.SetAside(upload.ReasonNotCore, "it is text"))
	notes, _ := filepath.Glob(filepath.Join(dir, ".aside/*.json"))
	if len(notes) != 1 {
		t.Fatalf("notes: %q", notes)
	}
	var note asideNote
	data, err := os.ReadFile(notes[0])
	must(t, err)
	must(t, json.Unmarshal(data, &note))
	if note.Path != `"ns/core\n"` || note.Reason != upload.ReasonNotCore || note.Why != "it is text" || note.Size != 4 {
		t.Errorf("%+v", note)
	}
	kept, err := os.ReadFile(strings.TrimSuffix(notes[0], ".json"))
	if err != nil || string(kept) != "text" {
		t.Errorf("%q, %v", kept, err)
	}
}

func TestTheAsideDirectoryMustBeOurs(t *testing.T) {
	for what, make := range map[string]func(name string) error{
		"open to others": func(name string) error { return errors.Join(os.Mkdir(name, 0o700), os.Chmod(name, 0o777)) },
		"a link":         func(name string) error { return os.Symlink(os.TempDir(), name) },
		"a file":         func(name string) error { return os.WriteFile(name, nil, 0o600) },
	} {
		dir := t.TempDir()
		must(t, make(filepath.Join(dir, AsideDir)))
		if r, err := OpenRoot(dir); err == nil {
			r.Close()
			t.Errorf("%s: accepted", what)
		}
	}
}

func TestWhoHasAFileOpenForWritingIsSeen(t *testing.T) {
	r, dir := openRoot(t)
	name := filepath.Join(dir, "core")
	w, err := os.Create(name)
	must(t, err)
	f, err := r.Open("core")
	must(t, err)
	defer f.Close()
	if !r.leases {
		t.Skip("no leases on this file system")
	}
	if f.hasWriter() != writerOpen {
		t.Error("the writer is not seen")
	}
	r.leases = false // as on a file system that refuses always
	if f.hasWriter() != writerUnknown {
		t.Error("a refusal counts that means nothing")
	}
	r.leases = true
	must(t, w.Truncate(4096))
	m, err := unix.Mmap(int(w.Fd()), 0, 4096, unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	must(t, w.Close())
	if f.hasWriter() != writerOpen {
		t.Error("a mapping for writing is not seen")
	}
	must(t, unix.Munmap(m))
	if f.hasWriter() != writerNone {
		t.Error("a writer is seen that has gone")
	}
	again, err := os.OpenFile(name, os.O_WRONLY, 0)
	must(t, err) // the lease was given back
	must(t, again.Close())
}

func TestW13_ANameThatIsAnothersByNowIsNotRemoved(t *testing.T) {
	r, dir := openRoot(t)
	name := filepath.Join(dir, "core")
	write(t, name, []byte("dump!"))
	f, err := r.Open("core")
	must(t, err)
	defer f.Close()
	must(t, os.Rename(name, name+"x"))
	write(t, name, []byte("victim"))
	must(t, unix.Fstat(f.fd, &f.stat)) // as if the clock were too coarse to tell that the file was renamed
	if err := f.Remove(); !errors.Is(err, upload.ErrChanged) {
		t.Error(err)
	}
	if _, err := os.Stat(name); err != nil {
		t.Error(err)
	}
}
