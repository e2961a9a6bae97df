// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/spool"
)

var (
	config = Config{Capture: true, OptedOut: capture.Drop, MaxSize: 1 << 30, MaxPerHour: 3, MaxPerSite: 2, MaxPerNamespace: 7, Concurrent: 4}
	start  = time.Unix(1_790_000_000, 0)
	web    = Subject{Namespace: "shop", OwnerKind: "ReplicaSet", OwnerName: "web-5d4", PodName: "web-5d4-x", PodUID: "u1"}
)

func kept(site string) spool.Outcome {
	return spool.Outcome{Size: 4096, PromisedSize: 4096, Site: site}
}

func suppressed(r spool.Reason) spool.Outcome { return spool.Outcome{Suppressed: r} }

func newJudge(c Config) (*Judge, *clocktesting.FakeClock) {
	clk := clocktesting.NewFakeClock(start)
	return New(c, clk), clk
}

func wantDrop(t *testing.T, d *Decision, reason spool.Reason) {
	t.Helper()
	if d.Verdict.Action != capture.Drop || d.Verdict.Reason != reason {
		t.Errorf("%+v: want it dropped because of %s", d.Verdict, reason)
	}
}

func wantKeep(t *testing.T, d *Decision) {
	t.Helper()
	if d.Verdict.Action != capture.Keep {
		t.Errorf("%+v: want it kept", d.Verdict)
	}
}

func TestTheFirstDumpsOfAnHourAreKeptAndTheRestCounted(t *testing.T) {
	j, clk := newJudge(config)
	for i := range 3 {
		d := j.Judge(web)
		wantKeep(t, d)
		d.Done(kept(fmt.Sprint(i)))
	}
	for range 241 {
		wantDrop(t, j.Judge(web), spool.ReasonRateLimit)
	}
	if got := j.Counts(web.Workload()); got != (Counts{start, 3, 241}) {
		t.Errorf("counted %+v", got)
	}
	clk.Step(hour - 1)
	wantDrop(t, j.Judge(web), spool.ReasonRateLimit)
	clk.Step(1)
	d := j.Judge(web)
	wantKeep(t, d)
	if d.Counts != (Counts{start.Add(hour), 1, 0}) {
		t.Errorf("a new hour begins with %+v", d.Counts)
	}
}

func TestAClockThatGoesBackDoesNotSuppressForEver(t *testing.T) {
	j, clk := newJudge(config)
	for range 4 {
		j.Judge(web).Done(kept(""))
	}
	clk.SetTime(start.Add(-2 * hour))
	wantKeep(t, j.Judge(web))
}

func TestPodsOfOneControllerShareALimitAndOthersDoNot(t *testing.T) {
	j, _ := newJudge(config)
	for i := range 3 {
		s := web
		s.PodUID = fmt.Sprint(i)
		j.Judge(s).Done(kept(""))
	}
	wantDrop(t, j.Judge(web), spool.ReasonRateLimit)
	other := web
	other.Namespace = "bank"
	wantKeep(t, j.Judge(other))
}

func TestPodsWithoutAControllerCannotOutnumberTheLimitOfTheirNamespace(t *testing.T) {
	j, _ := newJudge(config)
	for i := range 8 {
		d := j.Judge(Subject{Namespace: "shop", PodName: "p", PodUID: fmt.Sprint(i)})
		if i < 7 {
			wantKeep(t, d)
		} else {
			wantDrop(t, d, spool.ReasonRateLimit)
		}
		d.Done(kept(""))
	}
}

func TestWhoCannotBeIdentifiedSharesOneLimit(t *testing.T) {
	j, _ := newJudge(config)
	for i := range 4 {
		d := j.Judge(Subject{PodName: fmt.Sprint(i)})
		if d.Workload != UnknownWorkload || (d.Verdict.Action == capture.Keep) != (i < 3) {
			t.Errorf("%d: %+v", i, d)
		}
		d.Done(kept(""))
	}
}

func TestAPlaceThatCrashedEnoughIsToldAndItsDumpsGiveTheirTokenBack(t *testing.T) {
	j, _ := newJudge(config)
	for range 2 {
		d := j.Judge(web)
		if len(d.Verdict.Sites) != 0 {
			t.Errorf("sites %v before there were enough", d.Verdict.Sites)
		}
		d.Done(kept("a"))
	}
	for range 10 {
		d := j.Judge(web)
		wantKeep(t, d)
		if !slices.Equal(d.Verdict.Sites, []string{"a"}) {
			t.Errorf("sites %v", d.Verdict.Sites)
		}
		d.Done(suppressed(spool.ReasonRepeated))
	}
	d := j.Judge(web)
	wantKeep(t, d)
	d.Done(kept("b"))
	wantDrop(t, j.Judge(web), spool.ReasonRateLimit)
	if got := j.Counts(web.Workload()); got.Kept != 3 || got.Suppressed != 11 {
		t.Errorf("counted %+v", got)
	}
}

func TestAnEmptyDumpGivesItsTokenBackOnce(t *testing.T) {
	j, _ := newJudge(config)
	for range 5 {
		d := j.Judge(web)
		wantKeep(t, d)
		d.Done(spool.Outcome{Suppressed: spool.ReasonEmpty})
		d.Done(spool.Outcome{})
	}
	if got := j.Counts(web.Workload()); got.Kept != 0 || got.Suppressed != 5 || j.Active() != 0 {
		t.Errorf("counted %+v, %d active", got, j.Active())
	}
}

func TestNoMoreDumpsAtOnceThanAllowed(t *testing.T) {
	j, _ := newJudge(config)
	var first *Decision
	for i := range 4 {
		d := j.Judge(Subject{Namespace: fmt.Sprint(i)})
		wantKeep(t, d)
		if first == nil {
			first = d
		}
	}
	d := j.Judge(Subject{Namespace: "late"})
	wantDrop(t, d, spool.ReasonConcurrency)
	d.Done(spool.Outcome{}) // changes nothing: it was none of the four
	wantDrop(t, j.Judge(Subject{Namespace: "late"}), spool.ReasonConcurrency)
	first.Done(kept(""))
	wantKeep(t, j.Judge(Subject{Namespace: "late"}))
}

func TestWhoOptsOutIsDroppedOrForwardedAndTakesNoRoom(t *testing.T) {
	s := web
	s.PodAnnotations = map[string]string{KeyCapture: Disabled}
	j, _ := newJudge(config)
	wantDrop(t, j.Judge(s), spool.ReasonOptedOut)
	c := config
	c.OptedOut = capture.Forward
	j, _ = newJudge(c)
	if d := j.Judge(s); d.Verdict.Action != capture.Forward || d.Verdict.Reason != "" {
		t.Errorf("%+v", d.Verdict)
	}
	if j.workloads.order.Len() != 0 || j.Active() != 0 {
		t.Error("an opted-out pod is remembered")
	}
}

func TestADumpWithoutAJudgementIsCountedToo(t *testing.T) {
	j, _ := newJudge(config)
	for range 3 {
		j.Count(web, kept("a"))
	}
	j.Count(web, suppressed(spool.ReasonNoSpace))
	d := j.Judge(web)
	wantDrop(t, d, spool.ReasonRateLimit)
	if d.Counts.Kept != 3 || d.Counts.Suppressed != 2 {
		t.Errorf("counted %+v", d.Counts)
	}
}

func TestP5_AStormOfCrashesCostsNothing(t *testing.T) {
	j, _ := newJudge(config)
	captures := 0
	for range 100_000 {
		d := j.Judge(web)
		if d.Verdict.Action == capture.Keep {
			captures++
			d.Done(spool.Outcome{Suppressed: spool.ReasonRepeated})
		}
	}
	if captures > maxRefunds+config.MaxPerHour {
		t.Errorf("%d captures were begun that come to nothing", captures)
	}
	for i := range 20_000 {
		s := Subject{Namespace: fmt.Sprint(i), PodName: "p", PodAnnotations: map[string]string{KeyMaxSize: fmt.Sprint(i, "x")}}
		j.Judge(s).Done(spool.Outcome{})
	}
	if j.workloads.order.Len() != maxWorkloads || len(j.workloads.byKey) != maxWorkloads || len(j.namespaces.byKey) != maxNamespaces || len(j.told.byKey) != maxTold {
		t.Errorf("remembered: %d workloads, %d namespaces, %d problems", len(j.workloads.byKey), len(j.namespaces.byKey), len(j.told.byKey))
	}
	own, _ := j.windows(web.Workload(), start)
	for i := range 1000 {
		own.at(fmt.Sprint(i))
		own.at(strings.Repeat("x", maxSite+1+i))
	}
	if len(own.sites) > maxSites {
		t.Errorf("%d sites", len(own.sites))
	}
}

func TestManyCrashesAtOnce(t *testing.T) {
	c := config
	c.MaxPerHour, c.MaxPerNamespace, c.MaxPerSite = 100, 0, 0
	j, _ := newJudge(c)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if j.Active() > c.Concurrent {
					t.Error("too many at once")
				}
				j.Judge(web).Done(kept("a"))
			}
		})
	}
	wg.Wait()
	if got := j.Counts(web.Workload()); got.Kept != 100 || got.Suppressed != 1500 || j.Active() != 0 {
		t.Errorf("counted %+v, %d active", got, j.Active())
	}
}

func BenchmarkJudge(b *testing.B) {
	j, _ := newJudge(config)
	for b.Loop() {
		j.Judge(web).Done(kept("a"))
	}
}

func TestP6_OneNamespaceHasHalfOfThePlacesAtMost(t *testing.T) {
	j, _ := newJudge(config)
	slow := make([]*Decision, 0, 2)
	for i := range 2 {
		d := j.Judge(Subject{Namespace: "slow", PodName: fmt.Sprint(i), PodUID: fmt.Sprint(i)})
		wantKeep(t, d)
		slow = append(slow, d)
	}
	wantDrop(t, j.Judge(Subject{Namespace: "slow", PodName: "2", PodUID: "2"}), spool.ReasonConcurrency)
	wantKeep(t, j.Judge(web))
	wantKeep(t, j.Judge(web))
	slow[0].Done(kept("here"))
	wantKeep(t, j.Judge(Subject{Namespace: "slow", PodName: "3", PodUID: "3"}))
}
