// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"example.io/coredump/pkg/capture"
)

const (
	dir    = "/opt/coredump"
	socket = "/run/coredump/core.sock"
)

func pipe(version int) string {
	return fmt.Sprintf("|%s/corepipe-%012x %s", dir, version, capture.Specifiers)
}

// world is a host with a kernel that forgets, a disk that does not, and the values that the host would have without us.
type world struct {
	boot  int
	now   Values
	saved *Original
	// own are the host's own values: what uninstalling has to give back.
	own Values
	r   *rand.Rand
	log []string
}

func (w *world) state() *state {
	s := &state{current: maps.Clone(w.now), bootID: fmt.Sprint("boot-", w.boot), dir: dir, socket: socket}
	if w.saved != nil {
		o := clone(w.saved)
		s.saved = &o
	}
	return s
}

// killed is a number of steps after which an operation is killed; mostly it is not.
func (w *world) killed() int {
	if w.r.IntN(3) == 0 {
		return w.r.IntN(6)
	}
	return 100
}

// steps carries out the steps before the one at which it is killed.
func (w *world) steps(name string, steps ...func()) {
	n := w.killed()
	w.log = append(w.log, fmt.Sprintf("%s, at most %d of %d", name, n, len(steps)))
	for i, step := range steps {
		if i == n {
			return
		}
		step()
	}
}

func (w *world) writes(writes []write) (steps []func()) {
	for _, x := range writes {
		steps = append(steps, func() { w.now[x.knob] = x.value })
	}
	return steps
}

func (w *world) apply(want Values, force bool) []Drift {
	o, save, writes, drift, err := w.state().applying(want, force)
	if err != nil {
		w.log = append(w.log, err.Error())
		return nil
	}
	steps := w.writes(writes)
	if save {
		steps = append([]func(){func() { w.saved = &o }}, steps...)
	}
	w.steps(fmt.Sprint("apply ", want), steps...)
	return drift
}

func (w *world) restore(whole bool) {
	s := w.state()
	writes := s.restoring()
	var steps []func()
	if s.saved != nil && len(writes) > 0 && !s.saved.Restoring {
		o, _ := s.originals()
		o = clone(&o)
		o.Restoring = true
		steps = append(steps, func() { w.saved = &o })
	}
	steps = append(steps, w.writes(writes)...)
	steps = append(steps, func() { w.saved = nil })
	if whole {
		w.log = append(w.log, "restore")
		for _, step := range steps {
			step()
		}
		return
	}
	w.steps("restore", steps...)
}

// settle is what an administrator sets.
func (w *world) settle() Values {
	return Values{
		CorePattern:   []string{"core", "/var/crash/core.%p", "|/usr/lib/systemd/systemd-coredump %P"}[w.r.IntN(3)],
		CorePipeLimit: []string{"0", "4"}[w.r.IntN(2)],
		SuidDumpable:  []string{"0", "1"}[w.r.IntN(2)],
	}
}

func TestWhateverHappensTheHostEndsWithItsOwnValues(t *testing.T) {
	for seed := range uint64(20000) {
		w := &world{r: rand.New(rand.NewPCG(seed, 3))}
		w.now = w.settle()
		w.own = maps.Clone(w.now)
		installed := false
		for range 1 + w.r.IntN(12) {
			switch w.r.IntN(6) {
			case 0, 1, 2: // install, restart, upgrade, other flags
				want := Values{CorePattern: pipe(w.r.IntN(3)), CorePipeLimit: []string{"16", "32"}[w.r.IntN(2)]}
				if w.r.IntN(4) == 0 {
					want[CorePattern] = "@@" + socket
				}
				if w.r.IntN(2) == 0 {
					want[SuidDumpable] = "2"
				}
				w.apply(want, w.r.IntN(2) == 0)
				installed = true
			case 3: // reboot
				w.boot++
				w.now = w.settle()
				if w.r.IntN(3) == 0 { // sysctl.d of a host may well say what we would
					w.now[CorePipeLimit], w.now[SuidDumpable] = "16", "2"
				}
				w.own = maps.Clone(w.now)
				w.log = append(w.log, fmt.Sprint("boot ", w.now))
			case 4:
				w.restore(false)
			case 5: // somebody sets something while nothing of ours is there
				if !installed || maps.Equal(w.now, w.own) && (w.saved == nil || w.saved.Restoring) {
					w.now = w.settle()
					w.own = maps.Clone(w.now)
					w.log = append(w.log, fmt.Sprint("set ", w.now))
				}
			}
		}
		w.restore(true)
		if !maps.Equal(w.now, w.own) || w.saved != nil {
			t.Fatalf("seed %d: the host has %v instead of %v, saved %v after\n%q", seed, w.now, w.own, w.saved, w.log)
		}
		if w.restore(true); !maps.Equal(w.now, w.own) {
			t.Fatalf("seed %d: restoring again made it %v", seed, w.now)
		}
	}
}

func applied(t *testing.T, before, want Values) *world {
	t.Helper()
	w := &world{now: maps.Clone(before), own: before}
	o, save, writes, drift, err := w.state().applying(want, true)
	if err != nil || !save || len(drift) != 0 {
		t.Fatal(err, save, drift)
	}
	w.saved = &o
	for _, step := range w.writes(writes) {
		step()
	}
	if !maps.Equal(w.now, want) {
		t.Fatalf("%v, want %v", w.now, want)
	}
	return w
}

var (
	before = Values{CorePattern: "|/usr/share/apport/apport %p", CorePipeLimit: "0", SuidDumpable: "0"}
	want   = Values{CorePattern: pipe(1), CorePipeLimit: "16", SuidDumpable: "2"}
)

func TestDriftIsPutBackAndTold(t *testing.T) {
	w := applied(t, before, want)
	w.now[CorePattern], w.now[CorePipeLimit] = "core", "4"
	o, save, writes, drift, err := w.state().applying(want, false)
	if err != nil || save {
		t.Fatal(err, save)
	}
	if !maps.Equal(o.Values, before) {
		t.Errorf("what somebody else wrote became the original: %v", o.Values)
	}
	if !slices.Equal(writes, []write{{CorePipeLimit, "16"}, {CorePattern, pipe(1)}}) {
		t.Errorf("writes %v", writes)
	}
	if !slices.Equal(drift, []Drift{{CorePipeLimit, "4", "16"}, {CorePattern, "core", pipe(1)}}) {
		t.Errorf("drift %v", drift)
	}
}

func TestAnUpgradeIsNoDriftAndChangesNoOriginal(t *testing.T) {
	w := applied(t, before, want)
	o, save, writes, drift, err := w.state().applying(Values{CorePattern: pipe(2), CorePipeLimit: "32"}, false)
	if err != nil || !save || len(drift) != 0 || !maps.Equal(o.Values, before) {
		t.Fatal(err, save, drift, o)
	}
	// suid_dumpable is not managed any more.
	if !slices.Equal(writes, []write{{CorePipeLimit, "32"}, {SuidDumpable, "0"}, {CorePattern, pipe(2)}}) {
		t.Errorf("writes %v", writes)
	}
}

func TestRestoringLeavesAloneWhatIsNotOursAnyMore(t *testing.T) {
	w := applied(t, before, want)
	w.now[CorePattern] = "/new/core"
	w.now[SuidDumpable] = "1"
	w.restore(true)
	if expected := (Values{CorePattern: "/new/core", CorePipeLimit: "0", SuidDumpable: "1"}); !maps.Equal(w.now, expected) {
		t.Errorf("%v, want %v", w.now, expected)
	}
}

func TestAfterALostFileTheHostGetsTheKernelsDefaults(t *testing.T) {
	w := applied(t, before, want)
	w.saved = nil
	o, _ := w.state().originals()
	if !o.Lost {
		t.Error("it is not told that the originals are lost")
	}
	w.restore(true)
	if w.now[CorePattern] != "core" || w.now[CorePipeLimit] != "0" {
		t.Errorf("%v", w.now)
	}
}

func TestAPatternOfOursThatLastedOverABootIsNoOriginal(t *testing.T) {
	w := applied(t, before, want)
	w.boot++
	w.now[CorePipeLimit] = "4"
	o, save, _, _, err := w.state().applying(want, false)
	if err != nil || !save {
		t.Fatal(err, save)
	}
	if o.Values[CorePattern] != before[CorePattern] || o.Values[CorePipeLimit] != "4" {
		t.Errorf("%v", o.Values)
	}
}

func TestAHostThatForbidsDumpsIsRespectedUnlessForced(t *testing.T) {
	for _, pattern := range []string{"|/bin/false", "|/usr/bin/false", "|/bin/true ", "|/bin/false %p", "", "|", "| ", "|/usr/bin/busybox false", "/dev/null", "|/sbin/nologin"} {
		w := &world{now: Values{CorePattern: pattern, CorePipeLimit: "0", SuidDumpable: "0"}}
		if _, _, _, _, err := w.state().applying(want, false); !errors.Is(err, ErrForbidden) {
			t.Errorf("%q: %v", pattern, err)
		}
		w = applied(t, w.now, want)
		// Force was taken away again.
		if _, _, _, _, err := w.state().applying(want, false); !errors.Is(err, ErrForbidden) {
			t.Errorf("%q was the original: %v", pattern, err)
		}
		// The host was hardened after we came.
		w = applied(t, before, want)
		w.now[CorePattern] = pattern
		if _, _, _, _, err := w.state().applying(want, false); !errors.Is(err, ErrForbidden) {
			t.Errorf("%q as drift: %v", pattern, err)
		}
	}
	for _, pattern := range []string{"core", "|/usr/lib/systemd/systemd-coredump %P", "/false", "|/opt/falsetto", "core.true"} {
		if Forbids(pattern) {
			t.Errorf("%q does not forbid dumps", pattern)
		}
	}
}

func TestAnotherInstallationIsNotTakenOver(t *testing.T) {
	w := &world{now: Values{CorePattern: "|/var/lib/other/corepipe-0123456789ab %P"}}
	if _, _, _, _, err := w.state().applying(want, false); !errors.Is(err, ErrSibling) {
		t.Error(err)
	}
}

func TestOurPatternsAreKnownWhateverTheirVersion(t *testing.T) {
	for pattern, expected := range map[string]kind{
		pipe(1):                                ours,
		"|/opt/coredump/corepipe-0123456789ab": ours,
		"|/opt/coredump/corepipe-0123456789ab %Q old": ours,
		"@@" + socket:                                  ours,
		"|/opt/coredump/corepipe":                      foreign,
		"|/opt/coredump/corepipe-0123456789abc":        foreign,
		"|/opt/coredump/x/../corepipe-0123456789ab %P": ours,
		"|/opt/coredump2/corepipe-0123456789ab %P":     sibling,
		"|opt/coredump/corepipe-0123456789ab":          foreign,
		"@@/run/systemd/coredump":                      foreign,
		"@" + socket:                                   foreign,
		"core":                                         foreign,
		"":                                             foreign,
		"|":                                            foreign,
	} {
		if got := whose(pattern, dir, socket); got != expected {
			t.Errorf("%q is %v, want %v", pattern, got, expected)
		}
	}
}
