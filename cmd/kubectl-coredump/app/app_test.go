// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/httprange"
	"example.io/coredump/pkg/registry/status"
	"example.io/coredump/pkg/storage"
)

func TestList(t *testing.T) {
	w := newWorld(t)
	w.ends(0, []string{"No core dumps in namespace shop."}, "list")
	old := w.dump("checkout", 48*time.Hour, make([]byte, 5000)).Name
	young := w.dump("api", time.Hour, make([]byte, 10)).Name
	w.ends(0, []string{"NAME ", "EXECUTABLE", "/app/server", "SIGSEGV", "4.9Ki", "2d"}, "list")
	if out := w.out.String(); strings.Index(out, old) > strings.Index(out, young) || strings.Contains(out, "NAMESPACE") {
		t.Errorf("not by time, or with a namespace:\n%s", out)
	}
	w.ends(0, []string{"NAMESPACE", "shop "}, "list", "-A", "--sort-by=size")
	if out := w.out.String(); strings.Index(out, old) < strings.Index(out, young) {
		t.Errorf("not by size:\n%s", out)
	}
	w.ends(0, []string{young}, "list", "--since=1d", "-o", "name")
	if strings.Contains(w.out.String(), old) {
		t.Errorf("too old:\n%s", w.out.String())
	}
	w.ends(0, []string{old}, "list", "--field-selector=spec.podName=checkout", "-o", "wide")
	w.ends(0, []string{`"kind": "CoreDumpList"`, old}, "list", "-o", "json")
	w.ends(0, []string{"kind: CoreDumpList", young}, "list", "-o", "yaml")
}

// The server has no watch: the list is asked for again.
func TestListWatches(t *testing.T) {
	w := newWorld(t)
	first := w.dump("checkout", time.Hour, []byte("x")).Name
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan int)
	go func() { done <- w.runIn(ctx, "list", "-w", "-o", "name") }()
	waitFor(t, func() bool { return w.count("watch=true") > 0 })
	second := w.dump("api", time.Minute, []byte("y")).Name
	lists := w.count("/coredumps?")
	waitFor(t, func() bool { return w.count("/coredumps?") > lists+2 })
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("ends with %d: %s", code, w.err.String())
	}
	if out := w.out.String(); out != first+"\n"+second+"\n" {
		t.Errorf("printed %q", out)
	}
}

func (w *world) count(what string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.requests {
		if strings.Contains(r, what) {
			n++
		}
	}
	return n
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never happened")
		}
	}
}

// What a process has made up does nothing to a terminal, wherever it is shown.
func TestHostileRecordIsShownSafely(t *testing.T) {
	w := newWorld(t)
	evil := "\x1b[2J\x1b]0;owned\x07\u202e\u009b2J\x7f\n\r../../etc/passwd"
	d := w.dump("checkout", time.Hour, []byte("core"))
	d.Spec.Process.Executable, d.Spec.Process.Comm, d.Spec.Process.SignalName = evil, evil, evil
	d.Spec.Image, d.Spec.ImageID, d.Spec.NodeName, d.Spec.PodUID, d.Spec.Capture.File = evil, evil, evil, evil, evil
	d.Labels = map[string]string{"k" + evil: evil}
	d.Status.Truncated, d.Status.TruncatedReason = true, evil
	d.Status.Context = &v1alpha1.StoredContext{Files: []v1alpha1.ContextFile{{Name: evil, Size: 1}}}
	frame := v1alpha1.CrashFrame{Address: evil, Module: evil, Offset: evil, BuildID: evil}
	d.Status.Summary = &v1alpha1.CrashSummary{Text: evil, Signature: evil, BuildID: evil, Architecture: evil, Code: evil, Address: evil,
		Frames: []v1alpha1.CrashFrame{frame}, Others: []v1alpha1.ThreadPlace{{TID: 1, CrashFrame: frame}}, Modules: []v1alpha1.CrashModule{{Path: evil, BuildID: evil, Start: evil}}}
	for _, args := range [][]string{{"list"}, {"list", "-o", "wide"}, {"list", "-A"}, {"list", "-o", "name"}, {"list", "-o", "json"}, {"list", "-o", "yaml"},
		{"info", d.Name}, {"info", "checkout"}, {"info", d.Name, "-o", "json"}, {"info", d.Name, "-o", "yaml"}, {"download", d.Name, "-o", w.dir}} {
		w.ends(0, nil, args...)
	}
	if files := w.files(); len(files) != 1 || !strings.HasPrefix(files[0], "app-passwd-") {
		t.Errorf("files are %q", files)
	}
}

func TestInfoTellsEverything(t *testing.T) {
	w := newWorld(t)
	d := w.dump("checkout", time.Hour, make([]byte, 100_000))
	d.Status.Summary = &v1alpha1.CrashSummary{Text: "SIGSEGV (address not mapped) at 0x8 in /app/server+0x1f2c", BuildID: "93ac61ec", Threads: 14, Thread: 3,
		Frames: []v1alpha1.CrashFrame{{Address: "0x55d0", Module: "/app/server", Offset: "0x1f2c"}}}
	w.ends(0, []string{d.Name, "SIGSEGV (address not mapped)", "Pod:          checkout (UID uid-of-checkout)", "verified:", "14; crashed: number 3", "#0   0x55d0 in /app/server+0x1f2c",
		"97.7Ki (100000 bytes)", d.Status.SHA256, "(60m ago)", "app=checkout"}, "info", "checkout")
	w.ends(0, []string{`"kind": "CoreDump"`}, "info", d.Name, "-o", "json")
	w.ends(4, []string{"pod nobody in namespace shop has no core dumps"}, "info", "nobody")
	w.ends(4, []string{"not found"}, "info", "nobody.app.20261121t031500z-0123456789")
	w.ends(2, []string{"neither the name of a dump"}, "info", "../secret")
}

func TestDownload(t *testing.T) {
	w := newWorld(t)
	content := bytes.Repeat([]byte("the quick brown fox "), 20_000)
	d := w.dump("checkout", time.Hour, content)
	w.dump("checkout", 2*time.Hour, content[:1000])
	name := "app-server-" + d.Name[strings.LastIndexByte(d.Name, '.')+1:] + ".core"
	w.ends(0, []string{filepath.Join(w.dir, name) + "\n", "100%"}, "download", "checkout", "-o", w.dir)
	if got, err := os.ReadFile(filepath.Join(w.dir, name)); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	w.ends(0, nil, "download", "checkout", "--latest=0", "-o", filepath.Join(w.dir, "new"))
	if entries, err := os.ReadDir(filepath.Join(w.dir, "new")); err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
	w.ends(0, nil, "download", d.Name, "--keep-compressed", "-o", filepath.Join(w.dir, "compressed"))
	if got, err := os.ReadFile(filepath.Join(w.dir, "compressed", name+".zst")); err != nil || !bytes.Equal(got, w.bodies[d.Name]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if code := w.run("download", d.Name, "-o", "-"); code != 0 || !bytes.Equal(w.out.Bytes(), content) {
		t.Errorf("%d, %d bytes: %s", code, w.out.Len(), w.err.String())
	}
	w.ends(2, []string{"there are 2"}, "download", "checkout", "--latest=0", "-o", "-")
	w.ends(4, []string{"of container other"}, "download", "checkout", "-c", "other", "-o", w.dir)
	w.ends(4, []string{"of UID other"}, "download", "checkout", "--uid", "other", "-o", w.dir)
	w.ends(2, []string{"is one dump"}, "download", d.Name, "-c", "app", "-o", w.dir)
	w.terminal = true
	w.ends(2, []string{"is a terminal"}, "download", d.Name, "-o", "-")
}

// Exit codes are part of the interface.
func TestDownloadsThatFail(t *testing.T) {
	w := newWorld(t)
	d := w.dump("checkout", time.Hour, make([]byte, 100_000))
	good := bytes.Clone(w.bodies[d.Name])
	for _, test := range []struct {
		name   string
		before func()
		code   int
		want   string
	}{
		{"another core", func() { d.Status.SHA256 = strings.Repeat("0", 64) }, 6, "not what the record says"},
		{"flipped bit", func() { w.bodies[d.Name][10] ^= 1 }, 6, "Nothing of it is kept"},
		{"file of that name", func() {
			_ = os.WriteFile(filepath.Join(w.dir, "app-server-"+d.Name[strings.LastIndexByte(d.Name, '.')+1:]+".core"), []byte("precious"), 0o600)
		}, 1, "move it away"},
		{"server away", func() {
			w.serve = func(rw http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, "/dump") {
					refuse(rw, apierrors.NewServiceUnavailable("the store is away"))
					return true
				}
				return false
			}
		}, 5, "the store is away"},
		{"truncated object", func() {
			w.serve = func(rw http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/dump") {
					return false
				}
				err := &storage.Error{Op: "read", Key: "shop/checkout/app/x.core.zst", Kind: storage.ErrCorrupt, Err: errors.New("it has 1 bytes, its record says 2")}
				refuse(rw, status.Of(r.Context(), err, v1alpha1.Resource("coredumps"), d.Name).(*apierrors.StatusError))
				return true
			}
		}, 6, "it has 1 bytes, its record says 2\nNothing of it is kept"},
		{"not allowed after all", func() { w.denied["dump"] = true }, 3, "coredump-downloader"},
	} {
		sum := d.Status.SHA256
		test.before()
		w.ends(test.code, []string{test.want}, "download", d.Name, "-o", w.dir, "--give-up-after=1ms")
		d.Status.SHA256, w.bodies[d.Name], w.serve = sum, bytes.Clone(good), nil
		delete(w.denied, "dump")
		if files := w.files(); len(files) > 1 || len(files) == 1 && test.name != "file of that name" {
			t.Errorf("%s: left behind: %v", test.name, files)
		}
		for _, f := range w.files() {
			_ = os.Remove(filepath.Join(w.dir, f))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code := w.runIn(ctx, "download", d.Name, "-o", w.dir); code != 130 {
		t.Errorf("interrupted: %d", code)
	}
	for _, args := range [][]string{{"download"}, {"download", "a", "b"}, {"bogus"}, {"list", "--bogus"}, {"list", "--sort-by=x"}, {"list", "-o", "x"}, {"list", "--since=-1h"}, {"info", "x", "-o", "x"},
		{"download", "x", "--latest=-1"}, {"download", "x", "--parallel=0"}, {"debug", "x"}, {"debug", "x", "--executable=a", "--debugger-image=b"}, {"debug", "x", "y", "--executable=a"},
		{"debug", "x", "--debugger=ed", "--executable=a"}, {"debug", "x", "--debugger-image=b", "--share=x"}} {
		w.ends(2, []string{"See kubectl coredump --help."}, args...)
	}
}

// A download says that it can be gone on with where that is so.
func TestWhatIsKept(t *testing.T) {
	w := newWorld(t)
	content := make([]byte, 100_000)
	d := w.dump("checkout", time.Hour, content)
	for codec, kept := range map[string]bool{"zst": true, "gz": false} { // what is stored as gzip has no ranges
		d.Status.Codec = codec
		w.serve = func(rw http.ResponseWriter, r *http.Request) bool {
			switch {
			case strings.HasSuffix(r.URL.Path, "/proxy"):
				rw.WriteHeader(http.StatusOK)
				_, _ = rw.Write(content[:1000])
			case codec == "zst" || !strings.HasSuffix(r.URL.Path, "/dump"):
				if r.Header.Get("Range") == "" || r.Header.Get("Range") == "bytes=0-0" {
					return false
				}
				body := w.bodies[d.Name]
				a := httprange.Decide(r.Method, r.Header, httprange.Representation{Size: int64(len(body)), ETag: `"x"`, Seekable: true})
				a.SetHeader(rw.Header())
				rw.WriteHeader(a.Code)
				_, _ = rw.Write(body[a.Offset : a.Offset+a.Length/2])
			default:
				_, _ = rw.Write(content)
				return true
			}
			_ = http.NewResponseController(rw).Flush()
			panic(http.ErrAbortHandler)
		}
		w.ends(5, []string{"broke off"}, "download", d.Name, "-o", w.dir, "--give-up-after=1ms")
		if says := strings.Contains(w.err.String(), "is kept"); says != kept || kept != (len(w.files()) > 0) {
			t.Errorf("%s: there are %v, and it says\n%s", codec, w.files(), w.err.String())
		}
		for _, f := range w.files() {
			_ = os.Remove(filepath.Join(w.dir, f))
		}
	}
}

func TestMissingRightsNameTheRole(t *testing.T) {
	w := newWorld(t)
	d := w.dump("checkout", time.Hour, []byte("core"))
	for _, test := range []struct {
		denied string
		args   []string
		want   []string
	}{
		{"list coredumps", []string{"list"}, []string{"you (alice) may not list coredumps in namespace shop", "ClusterRole coredump-viewer", `kubectl create rolebinding NAME -n shop --clusterrole=coredump-viewer --user="alice"`}},
		{"list coredumps", []string{"list", "-A"}, []string{"in all namespaces", "kubectl create clusterrolebinding NAME --clusterrole=coredump-viewer"}},
		{"list coredumps", []string{"download", "checkout"}, []string{"coredump-viewer"}},
		{"get coredumps", []string{"info", d.Name}, []string{"may not get coredumps", "coredump-viewer"}},
		{"get coredumps/dump", []string{"download", d.Name}, []string{"may not get coredumps/dump in namespace shop", "coredump-downloader"}},
		{"get coredumps/dump", []string{"debug", d.Name, "--executable=/bin/sh"}, []string{"coredump-downloader"}},
		{"create pods/exec", []string{"debug", d.Name, "--debugger-image=gdb"}, []string{"may not create pods/exec in namespace shop.", "ClusterRole edit"}},
	} {
		w.denied = map[string]bool{test.denied: true}
		w.ends(3, test.want, test.args...)
	}
	// A server that does not answer the question does not stop anybody.
	w.denied, w.broken = map[string]bool{"list coredumps": true}, true
	w.ends(0, []string{d.Name}, "list")
}

func TestCompletion(t *testing.T) {
	w := newWorld(t)
	d := w.dump("checkout", time.Hour, []byte("core"))
	w.dump("api", time.Hour, []byte("core"))
	w.dumps = append(w.dumps, v1alpha1.CoreDump{})
	w.dumps[2].Name = "checkout.$(reboot).x"
	for _, command := range []string{"info", "download", "debug"} {
		w.out.Reset()
		w.run("__complete", command, "che")
		got := strings.Split(w.out.String(), "\n")
		if len(got) < 3 || got[0] != "checkout\tthe newest dump of this pod" || !strings.HasPrefix(got[1], d.Name+"\tSIGSEGV 2026-11-21T03:20:00Z") || got[2] != ":4" {
			t.Errorf("%s: %q", command, got)
		}
	}
}

// Words of somebody else are fit for a file name, whatever they are.
func FuzzWord(f *testing.F) {
	for _, s := range []string{"", "server", "..", "-rf", "a/b", "\x00", "été", strings.Repeat("x", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w := word(s, 64)
		if w == "" || len(w) > 64 || w[0] == '.' || w[0] == '-' || strings.ContainsFunc(w, func(r rune) bool {
			return r > '~' || r <= ' ' || strings.ContainsRune(`/\:*?"<>|$&;'()`, r)
		}) {
			t.Errorf("%q becomes %q", s, w)
		}
		if safe := lines(s, 100); len(safe) > 300 || strings.ContainsFunc(safe, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }) {
			t.Errorf("%q becomes %q", s, safe)
		}
	})
}

func TestSince(t *testing.T) {
	for s, want := range map[string]time.Time{"90m": now.Add(-90 * time.Minute), "7d": now.Add(-7 * 24 * time.Hour), "2026-01-02T15:04:05Z": time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)} {
		if got, err := parseSince(s, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %s, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0s", "-1h", "-1d", "d", "yesterday", "999999999999d"} {
		if got, err := parseSince(s, now); !errors.As(err, new(*usageError)) {
			t.Errorf("%s: %s, %v", s, got, err)
		}
	}
}
