// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package podcontext

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/identity"
)

// logs makes a directory of logs with the files of the container, and an identity that names the first of them as the runtime does.
func logs(t *testing.T, files map[string]string) (Logs, identity.Who) {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "team_web-0_u1", "app")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w := who
	w.LogPath = KubeletLogs + "/team_web-0_u1/app/0.log"
	return Logs{Root: root, Lines: 500, Bytes: 1 << 20}, w
}

func tail(t *testing.T, l Logs, w identity.Who) string {
	t.Helper()
	data, err := l.Tail(cid, w)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestTheLastLinesAreGiven(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		b.WriteString(line(i, "text "+strings.Repeat("x", i%50)))
	}
	l, w := logs(t, map[string]string{"0.log": b.String(), "1.log": line(1, "the next attempt")})
	got := tail(t, l, w)
	if strings.Count(got, "\n") != 500 || !strings.HasPrefix(got, "2026-01-02T03:04:05.000000500Z stdout text ") || !strings.Contains(got, ".000000999Z stdout text xxx") {
		t.Errorf("%d lines: %.100q", strings.Count(got, "\n"), got)
	}
	// Not where the runtime said so, but as the kubelet lays logs out: the newest attempt.
	for _, path := range []string{"", "/elsewhere/0.log"} {
		w.LogPath = path
		if got := tail(t, l, w); !strings.Contains(got, "the next attempt") {
			t.Errorf("%.100q", got)
		}
	}
}

func TestARotatedLogIsReadOn(t *testing.T) {
	l, w := logs(t, map[string]string{
		"0.log": line(3, "three"), "0.log.20260102-030405": line(2, "two"), "0.log.20260102-020405": line(1, "one"),
		"0.log.20260102-040405.gz": "\x1f\x8b", "0.log.20260102-050405.tmp": "x",
	})
	if got := tail(t, l, w); got != "2026-01-02T03:04:05.000000002Z stdout two\n2026-01-02T03:04:05.000000003Z stdout three\n" {
		t.Errorf("%q", got)
	}
}

func TestAHugeLogIsReadFromItsEnd(t *testing.T) {
	l, w := logs(t, map[string]string{"0.log": ""})
	l.Bytes = 1 << 10
	name := filepath.Join(l.Root, "team_web-0_u1", "app", "0.log")
	if err := os.Truncate(name, 1<<40); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range 100 {
		if _, err := f.WriteString(line(i, "text")); err != nil {
			t.Fatal(err)
		}
	}
	got := tail(t, l, w)
	if len(got) > l.Bytes || len(got) < l.Bytes/2 || !strings.HasSuffix(got, ".000000099Z stdout text\n") || !strings.HasPrefix(got, "2026-") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
	// A line that is longer than all that may be given.
	if err := os.WriteFile(name, []byte(line(1, strings.Repeat("y", 5000))+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := tail(t, l, w); len(got) > l.Bytes {
		t.Errorf("%d bytes", len(got))
	}
}

func TestWhereThereIsNoLogNothingFails(t *testing.T) {
	l, w := logs(t, nil)
	if got := tail(t, l, w); got != "" {
		t.Errorf("%q", got)
	}
	w.LogPath = ""
	for _, l := range []Logs{l, {}, {Root: l.Root}} {
		if got := tail(t, l, w); got != "" {
			t.Errorf("%q", got)
		}
	}
	w.Container = ""
	if got := tail(t, l, w); got != "" {
		t.Errorf("%q", got)
	}
}

// What stands in place of a log is not followed, waited for, or read.
func TestP10_OnlyAPlainFileBelowTheRootIsRead(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "shadow")
	if err := os.WriteFile(outside, []byte(line(1, "secret")), 0o644); err != nil {
		t.Fatal(err)
	}
	for what, put := range map[string]func(name string) error{
		"a link":          func(name string) error { return os.Symlink(outside, name) },
		"a relative link": func(name string) error { return os.Symlink("../../../../../../"+outside, name) },
		"a link to another pod's log": func(name string) error {
			victim := filepath.Join(name, "../../../team_victim_u2/app/0.log")
			if err := os.MkdirAll(filepath.Dir(victim), 0o755); err != nil {
				return err
			}
			return errors.Join(os.WriteFile(victim, []byte(line(1, "secret")), 0o644), os.Symlink("../../team_victim_u2/app/0.log", name))
		},
		"a FIFO":      func(name string) error { return unix.Mkfifo(name, 0o644) },
		"a directory": func(name string) error { return os.Mkdir(name, 0o755) },
		"a link to a directory": func(name string) error {
			if err := os.Remove(filepath.Dir(name)); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(filepath.Dir(outside), "0.log"), []byte(line(1, "secret")), 0o644); err != nil {
				return err
			}
			return os.Symlink(filepath.Dir(outside), filepath.Dir(name))
		},
	} {
		l, w := logs(t, nil)
		if err := put(filepath.Join(l.Root, "team_web-0_u1", "app", "0.log")); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{w.LogPath, ""} {
			w.LogPath = path
			if got, _ := l.Tail(cid, w); len(got) != 0 {
				t.Errorf("%s: %q", what, got)
			}
		}
	}
	l, w := logs(t, nil)
	for _, path := range []string{"/../../" + outside, "/../" + filepath.Base(filepath.Dir(outside)) + "/shadow", "//" + outside, "/x\x00y", "/", "/.", "/.."} {
		w.LogPath = KubeletLogs + path
		if got, _ := l.Tail(cid, w); len(got) != 0 {
			t.Errorf("%q: %q", path, got)
		}
	}
}

func TestPartsOfALineAreJoined(t *testing.T) {
	const at = "2026-01-02T03:04:05.1Z"
	for text, want := range map[string]string{
		at + " stdout P ab\n" + at + " stderr F err\n" + at + " stdout P cd\n" + at + " stdout F ef\n" + at + " stdout F gh\n": at + " stdout abcdef\n" + at + " stderr err\n" + at + " stdout gh\n",
		at + " stdout F \n": at + " stdout \n",
		at + " stdout F\n":  at + " stdout \n",
		at + " stdout F:x tagged\nrubbish\n" + at + " stdin F x\n" + at + " stdout X x\n": at + " stdout tagged\nrubbish\n" + at + " stdin F x\n" + at + " stdout X x\n",
		at + " stdout P unfinished": at + " stdout unfinished\n",
		"\n\n":                      "",
	} {
		if got := (Logs{Lines: 100, Bytes: 10000}).join(decode([]byte(text))); string(got) != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(line(1, "a")+"2026-01-02T03:04:05Z stderr P b\nc\n"), 10, 100)
	f.Add([]byte("2026-01-02T03:04:05Z stdout"), 1, 1)
	f.Fuzz(func(t *testing.T, text []byte, lines, size int) {
		if lines <= 0 || size <= 0 {
			return
		}
		before := bytes.Clone(text)
		got := Logs{Lines: lines, Bytes: size}.join(decode(text))
		if len(got) > size || bytes.Count(got, []byte("\n")) > lines || !bytes.Equal(before, text) {
			t.Fatalf("%d bytes, %d lines", len(got), bytes.Count(got, []byte("\n")))
		}
		if total := (Logs{Lines: len(text) + 1, Bytes: 2*len(text) + 100}).join(decode(text)); len(total) > len(text)+1+bytes.Count(text, []byte("\n")) {
			t.Fatalf("%q became %q", text, total)
		}
	})
}
