// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"slices"
	"strings"
	"testing"
)

func values(letter byte) string {
	return map[byte]string{
		'P': "4711", 'p': "17", 'I': "4712", 'i': "18", 'F': "3", 'u': "1000", 'g': "100", 's': "11", 't': "1795218938", 'd': "1",
		'c': "18446744073709551615", 'C': "0", 'h': "web-1", 'f': "server", 'e': "a b;c", 'E': "!app!server",
	}[letter]
}

func TestPipePatternsAreSplitBeforeTheyAreExpanded(t *testing.T) {
	for text, expected := range map[string][]string{
		"|/usr/lib/systemd/systemd-coredump %P %u %g %s %t %c %h %d %F": {"/usr/lib/systemd/systemd-coredump", "4711", "1000", "100", "11", "1795218938", "18446744073709551615", "web-1", "1", "3"},
		"|/usr/share/apport/apport -p%p -s%s -c%c -d%d -P%P -u%u -g%g -F%F -- %E": {
			"/usr/share/apport/apport", "-p17", "-s11", "-c18446744073709551615", "-d1", "-P4711", "-u1000", "-g100", "-F3", "--", "!app!server"},
		"|/x %e":          {"/x", "a b;c"},
		"|/x  \t%e  ":     {"/x", "a b;c"},
		"|  /x %Q z":      {"/x", "", "z"},
		"|/x %%e 100%% %": {"/x", "%e", "100%", ""},
		"|/x\xa0y":        {"/x", "y"},
		"|/x-%e":          {"/x-a b;c"},
		"|/x %P%p":        {"/x", "471117"},
		"|":               nil,
		"| ":              nil,
		"|%Q":             nil,
		"core":            nil,
	} {
		p, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Args(values); !slices.Equal(got, expected) {
			t.Errorf("%q: %q, want %q", text, got, expected)
		}
	}
}

func TestFilePatternsBecomePathsAsTheKernelMakesThem(t *testing.T) {
	for _, c := range []struct {
		text     string
		usesPID  bool
		expected string
	}{
		{"core", false, "core"},
		{"core", true, "core.17"},
		{"core.%p", true, "core.17"},
		{"core.%P", true, "core.4711.17"},
		{"/var/crash/%h/core-%e-%t-%p-%s", false, "/var/crash/web-1/core-a b;c-1795218938-17-11"},
		{"/cores/%E.%%.%Q%F%", false, "/cores/!app!server.%."},
		{"", false, ""},
		{"", true, ".17"},
		{"|", true, ""},
		{"|/x", true, ""},
		{"@/run/x", false, ""},
	} {
		p, err := Parse(c.text)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Path(values, c.usesPID); got != c.expected {
			t.Errorf("%q: %q, want %q", c.text, got, c.expected)
		}
	}
}

func TestWhatAProcessCallsItselfIsOneComponentOfAPath(t *testing.T) {
	for s, expected := range map[string]string{"": "!", ".": "!", "..": "!.", "...": "...", "../x": "..!x", "/": "!", "a/b": "a!b", "a\nb": "a\nb"} {
		if got := Escape(s); got != expected {
			t.Errorf("%q: %q, want %q", s, got, expected)
		}
	}
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{"core", "|/x %e %F", "| %Q  %", "@@/run/x", "/a/%E.%p%", "", "|", "|\xa0%%"} {
		f.Add(s, "a b/../c")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		name = Escape(strings.ReplaceAll(name, "\x00", ""))
		value := func(c byte) string {
			if c == 'e' {
				return name
			}
			return "1"
		}
		args := p.Args(value)
		// No value makes or joins arguments: with other values there are as many.
		if other := p.Args(func(byte) string { return "x" }); (args == nil) != (other == nil) || len(args) != len(other) {
			t.Errorf("%q: %q and %q", text, args, other)
		}
		if args != nil && (p.Kind() != ToProgram || args[0] == "") {
			t.Errorf("%q: %q", text, args)
		}
		path := p.Path(value, true)
		// Nor does one change the directory.
		if want := strings.Count(p.Path(func(byte) string { return "x" }, true), "/"); strings.Count(path, "/") != want {
			t.Errorf("%q: %q has not %d slashes", text, path, want)
		}
	})
}
