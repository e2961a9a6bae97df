// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package transcript

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	escapes = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)
	// noise is what gdb says of the machine that it runs on and not of the core: that it is older than the processor, and that nobody has the sources here.
	noise = regexp.MustCompile("^(warning: Section `\\.reg-xstate/[0-9]+' in core file too small\\.|(warning: )?[0-9]+\t\\S+: No such file or directory\\.?)$")
)

// chatter are lines that one version of gdb prints and another one does not, and which nobody reads a stack for. Documents show them; they are not compared.
var chatter = regexp.MustCompile(`^(|\[New LWP .*|\[Thread debugging using .*|Using host libthread_db .*|\[Current thread is .*|warning: Can't open file .*|[0-9]+\t.*)$`)

// Screen is what is left on a terminal of what was written to it: progress lines in their last state, no colours. Lines that are noise are left out, and empty ones
// around them.
func Screen(written string) string {
	var lines []string
	for line := range strings.Lines(escapes.ReplaceAllString(written, "")) {
		line = strings.TrimRight(line, "\r\n")
		line = strings.TrimRight(line[strings.LastIndexByte(line, '\r')+1:], " ")
		if noise.MatchString(line) {
			if n := len(lines); n > 0 && lines[n-1] == "" {
				lines = lines[:n-1]
			}
			continue
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

// What two runs of the same commands print differently, and the word that stands for it. The order matters.
var variable = []struct {
	pattern *regexp.Regexp
	word    string
}{
	{regexp.MustCompile(`\b\d{8}t\d{6}z-[0-9a-f]{10}\b`), "ID"},
	{regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`), "UID"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
	{regexp.MustCompile(`\bcoredump-debug-[a-z0-9]{5}\b`), "coredump-debug-XXXXX"},
	{regexp.MustCompile(`\b0x[0-9a-f]{3,}\b`), "ADDRESS"},
	{regexp.MustCompile(`\b([0-9a-f]{16,}\b|[0-9a-f]{8}\.\.\.)`), "HASH"},
	{regexp.MustCompile(`\b\d+(\.\d+)?[KMGT]?i?/s`), "RATE"},
	{regexp.MustCompile(`\b(TID|PID:|on the node) +\d+\b`), "$1 N"},
	{regexp.MustCompile(`^ +\d+ +ADDRESS`), "N ADDRESS"}, // of a thread
	{regexp.MustCompile(`\bv\d+\.\d+\.\d+\S*`), "VERSION"},
	{regexp.MustCompile(`\b(\d+[smhd])+\b`), "AGE"},
	{regexp.MustCompile(` {2,}`), " "}, // columns are as wide as what is in them
}

// size is a number of bytes. They are compared as numbers: stacks and compression differ a little.
var size = regexp.MustCompile(`\b(\d+(?:\.\d+)?) ?([KMGT]iB?|bytes)\b`)

// tolerance is by how much of the larger two sizes may differ.
const tolerance = 0.25

// Differs says where what was printed is something else than what is shown; empty where they differ only in what does so between two runs.
func Differs(shown, printed string) string {
	want, got := compared(shown), compared(printed)
	for i := range max(len(want), len(got)) {
		w, g := "(nothing)", "(nothing)"
		if i < len(want) {
			w = want[i]
		}
		if i < len(got) {
			g = got[i]
		}
		if !same(w, g) {
			return fmt.Sprintf("this is shown:\n  %s\nand this is printed:\n  %s", w, g)
		}
	}
	return ""
}

// compared are the lines that count.
func compared(text string) []string {
	return slices.DeleteFunc(strings.Split(text, "\n"), chatter.MatchString)
}

func same(a, b string) bool {
	for _, v := range variable {
		a, b = v.pattern.ReplaceAllString(a, v.word), v.pattern.ReplaceAllString(b, v.word)
	}
	if size.ReplaceAllString(a, "SIZE") != size.ReplaceAllString(b, "SIZE") {
		return false
	}
	of := size.FindAllStringSubmatch(b, -1)
	for i, m := range size.FindAllStringSubmatch(a, -1) {
		if x, y := inBytes(m), inBytes(of[i]); max(x, y)-min(x, y) > tolerance*max(x, y) {
			return false
		}
	}
	return true
}

// inBytes is the value of a match of size.
func inBytes(m []string) float64 {
	n, _ := strconv.ParseFloat(m[1], 64) // the pattern lets nothing else through
	for range strings.Index(" KMGT", m[2][:1]) {
		n *= 1024
	}
	return n
}
