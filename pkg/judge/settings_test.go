// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/quick"

	"example.io/coredump/pkg/capture"
)

func TestWhoseWordOnCaptureCounts(t *testing.T) {
	for _, c := range []struct {
		byDefault, namespaceWins bool
		label, annotation        string
		want                     bool
	}{
		{true, false, "", "", true},
		{false, false, "", "", false},
		{true, false, Disabled, "", false},
		{false, false, Enabled, "", true},
		{true, false, Disabled, Enabled, true},
		{true, false, Enabled, Disabled, false},
		{true, true, Disabled, Enabled, false},
		{false, true, Enabled, Disabled, true},
		{true, true, "", Disabled, false},
		{false, false, "yes", "", false},
		{true, false, Disabled, "true", false},
	} {
		labels, annotations := map[string]string{}, map[string]string{}
		if c.label != "" {
			labels[KeyCapture] = c.label
		}
		if c.annotation != "" {
			annotations[KeyCapture] = c.annotation
		}
		config := Config{Capture: c.byDefault, NamespaceWins: c.namespaceWins}
		if got := config.read(labels, annotations).capture; got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

func TestLimitsAreLoweredNeverRaised(t *testing.T) {
	for _, c := range []struct {
		namespaceWins     bool
		label, annotation string
		want              int64
	}{
		{false, "", "", 1 << 30},
		{false, "64Mi", "", 64 << 20},
		{false, "2Gi", "", 1 << 30},
		{false, "64Mi", "128Mi", 128 << 20},
		{false, "128Mi", "64M", 64e6},
		{false, "64Mi", "2Ti", 1 << 30},
		{true, "64Mi", "128Mi", 64 << 20},
		{true, "128Mi", "64Mi", 64 << 20},
		{true, "", "64Mi", 64 << 20},
		{false, "64Mi", "much", 64 << 20},
		{false, "", "0", 1 << 30},
		{false, "", "-1", 1 << 30},
	} {
		labels, annotations := map[string]string{}, map[string]string{}
		if c.label != "" {
			labels[KeyMaxSize] = c.label
		}
		if c.annotation != "" {
			annotations[KeyMaxSize] = c.annotation
		}
		j, _ := newJudge(Config{Capture: true, NamespaceWins: c.namespaceWins, MaxSize: 1 << 30, MaxPerHour: 1, Concurrent: 1})
		d := j.Judge(Subject{Namespace: "n", NamespaceLabels: labels, PodAnnotations: annotations})
		if d.Verdict.Action != capture.Keep || d.Verdict.MaxSize != c.want {
			t.Errorf("%+v: %+v", c, d.Verdict)
		}
	}
}

func TestANamespaceAndAPodCanAskForFewerDumps(t *testing.T) {
	c := Config{MaxPerHour: 10}
	for _, x := range []struct {
		label, annotation string
		want              int
	}{{"5", "2", 2}, {"2", "5", 5}, {"20", "", 10}, {"", "99999999999999999", 10}, {"", "1e3", 10}, {"0", "", 10}} {
		got := c.read(map[string]string{KeyMaxPerHour: x.label}, map[string]string{KeyMaxPerHour: x.annotation}).maxRate
		if got != x.want {
			t.Errorf("%+v: %d", x, got)
		}
	}
}

func TestAnInvalidSettingIsToldOnceAndCountedAlways(t *testing.T) {
	j, _ := newJudge(config)
	s := web
	s.NamespaceLabels = map[string]string{KeyMaxPerHour: "many"}
	s.PodAnnotations = map[string]string{KeyCapture: "YES\x1b[31m", KeyMaxSize: strings.Repeat("9", 1000)}
	for i := range 3 {
		d := j.Judge(s)
		if len(d.Invalid) != 3 {
			t.Fatalf("%+v", d.Invalid)
		}
		for _, p := range d.Invalid {
			if p.First != (i == 0) || !printable(p.Problem) || len(p.Problem) > 512 {
				t.Errorf("%d: %+v", i, p)
			}
		}
	}
	other := s
	other.PodUID = "u2"
	first := 0
	for _, p := range j.Judge(other).Invalid {
		if p.First {
			first++
		}
	}
	if first != 2 {
		t.Errorf("%d problems of another pod of the namespace are told", first)
	}
}

func TestSizes(t *testing.T) {
	for s, want := range map[string]int64{
		"1": 1, "1k": 1e3, "1Ki": 1024, "3Gi": 3 << 30, "2T": 2e12, "999999999999999999Ti": math.MaxInt64,
		"": 0, "0": 0, "Ki": 0, "-1": 0, "+1": 0, " 1": 0, "1 ": 0, "1.5Gi": 0, "1e3": 0, "1KiKi": 0, "0x10": 0, "1ki": 0, "1000000000000000000000": 0, "1m": 0, "१": 0,
	} {
		got, err := ParseSize(s)
		if got != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
	whole := func(n int64) bool {
		n = n >> 4 & (1<<40 - 1)
		got, err := ParseSize(fmt.Sprint(n, "Ki"))
		return err == nil && got == n<<10 || n == 0
	}
	if err := quick.Check(whole, nil); err != nil {
		t.Error(err)
	}
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

func FuzzSettings(f *testing.F) {
	f.Add("enabled", "1Gi", "3", "disabled", "2Gi", "x")
	f.Add("", "\x00", "-1", "Enabled", "1e999999999", "99999999999999999999")
	f.Fuzz(func(t *testing.T, a, b, c, d, e, g string) {
		w := config.read(map[string]string{KeyCapture: a, KeyMaxSize: b, KeyMaxPerHour: c}, map[string]string{KeyCapture: d, KeyMaxSize: e, KeyMaxPerHour: g})
		if w.maxSize < 1 || w.maxSize > config.MaxSize || w.maxRate < 1 || w.maxRate > config.MaxPerHour || len(w.invalid) > 6 {
			t.Fatalf("%+v", w)
		}
		for _, p := range w.invalid {
			if !printable(p.Problem) || len(p.Problem) > 512 {
				t.Fatalf("%q", p.Problem)
			}
		}
	})
}
