// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package transcript

import (
	"reflect"
	"strings"
	"testing"
)

const document = "# Title\n\n$ not a command\n\n<!-- run as: alice -->\n```console\n$ one 'x\n> y'\nfirst\n\n$ second line of the output\n```\ntext\n\n" +
	"```sh\n$ none either\n```\n\n<!-- run as: bob -->\n```console\n$ two\n$ three\nthird\n```\nend\n"

func TestCommands(t *testing.T) {
	got := Commands(document)
	for i := range got {
		got[i].start, got[i].end = 0, 0
	}
	want := []Command{
		{As: "alice", Line: "one 'x\ny'", Output: "first\n\n"},
		{As: "alice", Line: "second line of the output"}, // what looks like a command is one
		{As: "bob", Line: "two"},
		{As: "bob", Line: "three", Output: "third\n"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant\n%+v", got, want)
	}
}

func TestRewrite(t *testing.T) {
	var same, other []string
	for _, c := range Commands(document) {
		same, other = append(same, c.Output), append(other, "new: "+c.Line[:3]+"\n")
	}
	if got := Rewrite(document, same); got != document {
		t.Errorf("what is written back is another document:\n%s", got)
	}
	got := Rewrite(document, other)
	if again := Commands(got); len(again) != 4 || again[0].Output != "new: one\n" || again[2].Output != "new: two\n" || !strings.HasSuffix(got, "new: thr\n```\nend\n") {
		t.Errorf("%s", got)
	}
}

func TestScreen(t *testing.T) {
	for written, want := range map[string]string{
		"":                                 "",
		"a\r\nb\r\n":                       "a\nb\n",
		"\r[#--]  43%\r[###] 100%   \r\nx": "[###] 100%\nx\n",
		"\x1b[1mbold\x1b[m\r\n":            "bold\n",
		"a\r\n\r\nwarning: Section `.reg-xstate/9' in core file too small.\r\n43\tcrash/crash.c: No such file or directory.\r\n": "a\n",
	} {
		if got := Screen(written); got != want {
			t.Errorf("%q: %q, want %q", written, got, want)
		}
	}
}

func TestDiffers(t *testing.T) {
	for _, same := range [][2]string{
		{"checkout.app.20261121t041500z-0123456789   SIGSEGV  1.2Gi  5m", "checkout.app.20270101t000000z-abcdef0123 SIGSEGV  1.1Gi  17s\n"},
		{"[###] 100%  8.0Mi of 8.0Mi  25.9Mi/s  written 32.4Mi", "[###] 100%  8.1Mi of 8.1Mi  903Ki/s  written 32.4Mi"},
		{"#0  0x0000000000401737 in crash_here (where=0x0)", "#0  0x0000555555554737 in crash_here (where=0x0)"},
		{"build-id 93ac61ec...), thread 3 of 14", "build-id 00000000...), thread 3 of 14"},
		{"[New LWP 9]\n[New LWP 10]\n\n#0  f ()", "[New LWP 12]\n#0  f ()\n"},
		{"  7         0x43c022 in /app/server+0x3c022", "  12        0x43c023 in /app/server+0x3c023"},
		{"core dump of 24 MiB captured", "core dump of 23 MiB captured"},
		{"pipe v0.0.0-g6d1b135-dirty", "pipe v1.2.3"},
		{"PID:          1 (on the node 19723)", "PID:          1 (on the node 7)"},
		{"1023 bytes", "1.0Ki"},
		{"2m5s", "3h"},
	} {
		if d := Differs(same[0], same[1]); d != "" {
			t.Error(d)
		}
	}
	for _, other := range [][2]string{
		{"a", "a\nb"}, {"a\nb", "a"}, {"", "a"},
		{"8.0Mi", "16Mi"}, {"8.0Mi", "8.0Gi"}, {"8.0Mi", ""},
		{"thread 3 of 14", "thread 3 of 13"},
		{"crash_here (where=0x0)", "crash_here (where=0x8)"},
		{"exit code 3", "exit code 1"},
		{"SIGSEGV", "SIGBUS"},
		{"24 MiB", "24 GiB"},
	} {
		if Differs(other[0], other[1]) == "" {
			t.Errorf("%q and %q are no different", other[0], other[1])
		}
	}
}
