// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package podcopy

import (
	"errors"
	"strings"
	"testing"
)

var values = Values{PID: 7, TID: 8, UID: 1000, GID: 1001, Signal: 11, Time: 1790000000, Comm: "../x y\n", Exe: "/app/server", Host: "web-0"}

func TestAPatternIsExpandedAsTheKernelDoes(t *testing.T) {
	for pattern, want := range map[string]string{
		"/data/core-%e-%p-%t":  "/data/core-..!x_y_-7-1790000000",
		"/core":                "/core",
		"/a/b/%f.%s.%i":        "/a/b/server.11.8",
		"/a/%E":                "/a/!app!server",
		"/a/%u:%g@%h%%":        "/a/1000:1001@web-0%",
		"/devices/process/%p":  "/devices/process/7",
		"/a/..%p":              "/a/..7",
		"/a/" + "%E%E%E%E%E%E": "/a/" + strings.Repeat("!app!server", 6),
	} {
		p, err := ParsePattern(pattern)
		if err != nil {
			t.Errorf("%s: %v", pattern, err)
			continue
		}
		name, err := p.expand(&values)
		if got := join(p.dir, name); err != nil || got != want {
			t.Errorf("%s: %s, %v", pattern, got, err)
		}
	}
}

func TestAPatternThatIsNoPlainPathIsRefused(t *testing.T) {
	for _, pattern := range []string{
		"", "|/bin/sh -c x", "@@/run/socket", "core.%p", "./core", "/", "/data/", "/data//core", "/data/../core", "/../core", "/./core", "/data/.", "/data/..",
		"/data/%z", "/data/%", "/data/core%P", "/data/%F", "/%h/core", "/proc/1/core", "/proc/core", "/sys/core", "/dev/shm/core", "/data/co\x00re", "/data/\x1b[31m", "/dätä/core",
		"/" + strings.Repeat("x", 256), strings.Repeat("/x", 300), "/data/...",
	} {
		_, err := ParsePattern(pattern)
		var refusal *Refusal
		if !errors.As(err, &refusal) || Reason(err) != "refused" {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}

func TestATextOfTheProcessIsNeverAPath(t *testing.T) {
	p, err := ParsePattern("/data/%e")
	if err != nil {
		t.Fatal(err)
	}
	for comm, want := range map[string]string{"": "_", ".": "!", "..": "!!", "/": "!", "../..": "..!..", "a\x00b": "a_b", "a\xff\x7f": "a__"} {
		name, err := p.expand(&Values{Comm: comm})
		if name != want || err != nil {
			t.Errorf("%q: %q, %v", comm, name, err)
		}
	}
}

func FuzzPattern(f *testing.F) {
	f.Add("/data/core-%e-%p-%t", "server", "/app/server", "web-0")
	f.Add("|/bin/sh", "..", "/", "\x00")
	f.Add("/a/%h%e%E%f", "/", "../../etc", strings.Repeat("h", 300))
	f.Fuzz(func(t *testing.T, pattern, comm, exe, host string) {
		p, err := ParsePattern(pattern)
		if err == nil {
			var name string
			name, err = p.expand(&Values{Comm: comm, Exe: exe, Host: host})
			if err == nil {
				if name == "" || name == "." || name == ".." || len(name) > maxName || strings.ContainsAny(name, "/\x00\n") || !printable(name) {
					t.Fatalf("name %q", name)
				}
				if !strings.HasPrefix(p.dir, "/") || strings.Contains(p.dir+"/", "/../") || !printable(p.dir) {
					t.Fatalf("directory %q", p.dir)
				}
				return
			}
		}
		var refusal *Refusal
		if !errors.As(err, &refusal) || !printable(err.Error()) || len(err.Error()) > 700 {
			t.Fatalf("%q", err)
		}
	})
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}
