// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"example.io/coredump/pkg/spool"
)

func TestARestartForgetsNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "counts.json")
	j, clk := newJudge(config)
	for range 2 {
		j.Judge(web).Done(kept("a"))
	}
	j.Judge(web) // still being taken when the program ends
	wantDrop(t, j.Judge(web), spool.ReasonRateLimit)
	if err := j.Save(file); err != nil {
		t.Fatal(err)
	}
	again := New(config, clk)
	if err := again.Load(file); err != nil {
		t.Fatal(err)
	}
	wantDrop(t, again.Judge(web), spool.ReasonRateLimit)
	if got := again.Counts(web.Workload()); got.Kept != 3 || got.Suppressed != 2 || again.Active() != 0 {
		t.Errorf("counted %+v, %d active", got, again.Active())
	}
	own, ns := again.windows(web.Workload(), clk.Now())
	if !slices.Equal(own.exhausted(2), []string{"a"}) || ns.kept != 3 {
		t.Errorf("remembered %+v, %+v", own, ns)
	}
}

func TestWhoWasForgottenFirstIsForgottenFirstAfterARestart(t *testing.T) {
	j, clk := newJudge(config)
	for i := range maxWorkloads {
		j.Count(Subject{Namespace: "n", OwnerName: fmt.Sprint(i)}, kept(""))
	}
	b, err := j.encode()
	if err != nil || len(b) > maxState {
		t.Fatal(len(b), err)
	}
	again := New(config, clk)
	if err := again.decode(b); err != nil {
		t.Fatal(err)
	}
	again.Count(Subject{Namespace: "n", OwnerName: "new"}, kept(""))
	if again.workloads.peek(Workload{"n", "", "0"}) != nil || again.workloads.peek(Workload{"n", "", "1"}) == nil {
		t.Error("not the oldest was forgotten")
	}
}

func TestHoursThatAreOverAreNotSaved(t *testing.T) {
	j, clk := newJudge(config)
	j.Judge(web)
	clk.Step(hour)
	if b, err := j.encode(); err != nil || string(b) != `{"version":1}` {
		t.Errorf("%s, %v", b, err)
	}
}

func TestABrokenFileIsAnErrorAndNothingElse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "counts.json")
	long := strings.Repeat("x", maxName+1)
	for _, text := range []string{
		"", "{", "null", "[]", `{"version":2}`, `{"version":1,"more":1}`, `{"version":1}{}`,
		`{"version":1,"workloads":[{"namespace":"` + long + `","start":1}]}`,
		`{"version":1,"workloads":[{"namespace":"n","start":1,"kept":-1}]}`,
		`{"version":1,"namespaces":[{"namespace":"n","start":-1}]}`,
		`{"version":1,"workloads":[{"namespace":"n","start":1,"sites":[{"site":"","kept":1}]}]}`,
		`{"version":1,"workloads":[{"namespace":"n","start":1,"sites":[` + strings.Repeat(`{"site":"s","kept":1},`, maxSites) + `{"site":"s","kept":1}]}]}`,
		`{"version":1,"namespaces":[` + strings.Repeat(`{"namespace":"n","start":1},`, maxNamespaces) + `{"namespace":"n","start":1}]}`,
		strings.Repeat(" ", maxState+1),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		j, _ := newJudge(config)
		j.Count(web, kept(""))
		if err := j.Load(file); err == nil {
			t.Errorf("%.80q is taken", text)
		}
		if j.Counts(web.Workload()).Kept != 1 {
			t.Errorf("%.80q changed what was counted", text)
		}
	}
	j, _ := newJudge(config)
	if err := j.Load(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Errorf("a file that does not exist: %v", err)
	}
}

func TestChangesAreSavedAfterAPauseAndAtTheEnd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "counts.json")
	j, _ := newJudge(config)
	clk := clocktesting.NewFakeClock(start)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		j.Keep(ctx, file, time.Minute, clk, func(err error) { t.Error(err) })
	}()
	j.Count(web, kept(""))
	for !clk.HasWaiters() {
		time.Sleep(time.Millisecond)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Error("it was saved before the pause was over:", err)
	}
	clk.Step(time.Minute)
	for {
		if _, err := os.Stat(file); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	j.Count(web, kept(""))
	cancel()
	<-done
	again, _ := newJudge(config)
	if err := again.Load(file); err != nil || again.Counts(web.Workload()).Kept != 2 {
		t.Errorf("%v, %+v", err, again.Counts(web.Workload()))
	}
}

func TestAFailureToSaveIsToldAndLeavesTheOldFile(t *testing.T) {
	j, _ := newJudge(config)
	if err := j.Save(filepath.Join(t.TempDir(), "none", "counts.json")); err == nil {
		t.Error("no error")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "counts.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := j.Save(filepath.Join(dir, "counts.json")); err == nil {
		t.Error("no error")
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}

func FuzzState(f *testing.F) {
	j, _ := newJudge(config)
	j.Judge(web).Done(kept("a"))
	b, _ := j.encode()
	f.Add(b)
	f.Add([]byte(`{"version":1,"workloads":[{"namespace":"n","start":1,"kept":1,"sites":[{"site":"s","kept":1}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		j, clk := newJudge(config)
		if j.decode(b) != nil {
			return
		}
		j.Judge(web).Done(kept("a"))
		out, err := j.encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := New(config, clk).decode(out); err != nil {
			t.Fatalf("what was saved cannot be loaded: %v\n%s", err, out)
		}
	})
}
