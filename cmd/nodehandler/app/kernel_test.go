// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"strings"
	"testing"

	"k8s.io/utils/clock"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/identity"
	"example.io/coredump/pkg/judge"
	"example.io/coredump/pkg/podcopy"
	"example.io/coredump/pkg/spool"
	"example.io/coredump/pkg/spooled"
	"example.io/coredump/pkg/tell"
)

func TestAllProblemsOfTheKernelsFlagsAreReportedAtOnce(t *testing.T) {
	for flag, says := range map[string]string{
		"--capture=ptrace":                `--capture "ptrace": must be pipe, socket or file`,
		"--capture-default=maybe":         `--capture-default "maybe": must be enabled or disabled`,
		"--opted-out=keep":                `--opted-out "keep": must be drop or forward`,
		"--suid-dumpable=1":               `--suid-dumpable "1": must be keep, 0 or 2`,
		"--cut-size=0":                    `--cut-size "0": must be a positive number of bytes`,
		"--spool-size=much":               `--spool-size "much": must be a positive number of bytes`,
		"--min-free=ten%":                 `--min-free "ten%": must be a number of bytes or from 0% to 90%`,
		"--min-free=10x%":                 `--min-free "10x%"`,
		"--min-free=91%":                  `--min-free "91%"`,
		"--core-pipe-limit=0":             "--core-pipe-limit 0: must be from 1 to 1024",
		"--max-captures=0":                "--max-captures 0: must be from 1 to 1024",
		"--max-per-hour=0":                "--max-per-hour 0: must be from 1",
		"--max-per-site-per-hour=0":       "--max-per-site-per-hour 0: must be from 1",
		"--max-per-namespace-per-hour=-1": "--max-per-namespace-per-hour -1: must be from 0",
		"--min-free-inodes=-1":            "--min-free-inodes -1: must be from 0",
		"--log-lines=100001":              "--log-lines 100001: must be from 0 to 100000",
		"--hold-deadline=2h":              "--hold-deadline 2h0m0s: must be from 1s to 1h0m0s",
		"--hold-stall-timeout=0s":         "--hold-stall-timeout 0s: must be from 1s",
		"--answer-timeout=1m":             "--answer-timeout 1m0s: must be from 10ms to 10s",
		"--heal-interval=1ms":             "--heal-interval 1ms: must be from 1s",
		"--host-dir=opt":                  `--host-dir "opt": must be an absolute path`,
		"--proc-sys=%p":                   `--proc-sys "%p": must be`,
		"--core-socket=/run/a b":          `--core-socket "/run/a b": must be`,
		"--corepipe=corepipe":             `--corepipe "corepipe": must be`,
	} {
		_, err := parse(t, "--store=file:///x", "--workers=0", flag, "/d")
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "--workers") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// Whatever the flags allow, corepipe takes.
func TestWhatTheFlagsAllowIsAConfigurationOfCorepipe(t *testing.T) {
	m := newMachine(t, "core")
	for _, args := range [][]string{
		{}, {"--hold-deadline=1h", "--hold-stall-timeout=1h", "--answer-timeout=10s", "--max-captures=1024"},
		{"--hold-deadline=10s", "--answer-timeout=10s"}, {"--min-free=0%"}, {"--min-free=90%"}, {"--min-free=20Gi", "--min-free-inodes=0"},
		{"--include-cmdline", "--include-environ", "--include-environ-values"},
	} {
		c, err := parse(t, append(args, "--store=file:///x", m.config.dir)...)
		must(t, err)
		config, err := c.captureConfig(m.spool)
		if err != nil {
			t.Errorf("%q: %v", args, err)
		}
		if _, err := config.Encode(); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
	if _, err := parse(t, "--store=file:///x", "--hold-deadline=1s", "--answer-timeout=2s", m.config.dir); err == nil || !strings.Contains(err.Error(), "--answer-timeout") {
		t.Errorf("an answer may come after the deadline: %v", err)
	}
}

// toldMachine is a kernel part that only tells and counts.
func toldMachine() (*kernel, *reasons) {
	events := &reasons{}
	return &kernel{
		teller: tell.New(events, "n1", clock.RealClock{}),
		judge:  judge.New(judge.Config{Capture: true, OptedOut: capture.Drop, MaxSize: 1 << 30, MaxPerHour: 10, Concurrent: 4}, clock.RealClock{}),
	}, events
}

func checkout() identity.Who {
	return identity.Who{Namespace: "shop", Pod: "checkout", PodUID: "u1", Container: "app", Verified: true}
}

func TestADumpThatNobodyWasAskedAboutIsCountedWhenItIsFound(t *testing.T) {
	for name, tc := range map[string]struct {
		outcome          spool.Outcome
		kept, suppressed int
		event            tell.Reason
	}{
		"it was judged":                         {spool.Outcome{Answered: true, Size: 5}, 0, 0, tell.Captured},
		"nobody was there":                      {spool.Outcome{Size: 5}, 1, 0, tell.Captured},
		"nobody was there, and it was cut":      {spool.Outcome{Size: 5, Truncated: spool.ReasonKilled}, 1, 0, tell.Truncated},
		"nobody was there, and nothing is left": {spool.Outcome{Suppressed: spool.ReasonNoSpace}, 0, 1, tell.Suppressed},
		"nobody was there, and it is unwanted":  {spool.Outcome{Suppressed: spool.ReasonOptedOut}, 0, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			k, events := toldMachine()
			who := checkout()
			k.ended(t.Context(), &spooled.Ended{Entry: "e", Name: "checkout.app.x", Meta: &spool.Meta{Mode: "pipe", Signal: 11}, Outcome: &tc.outcome, Who: who, Known: true})
			c := k.judge.Counts(judge.Workload{Namespace: "shop", Kind: "Pod", Name: "checkout/u1"})
			if c.Kept != tc.kept || c.Suppressed != tc.suppressed {
				t.Errorf("counted %+v", c)
			}
			if tc.event != "" && !events.has(tc.event) || tc.event == "" && len(events.list) != 0 {
				t.Errorf("told %q, want %s", events.list, tc.event)
			}
		})
	}
}

func TestNoEventNamesAPodThatIsNotVerified(t *testing.T) {
	k, events := toldMachine()
	who := checkout()
	who.Verified = false
	k.ended(t.Context(), &spooled.Ended{Entry: "e", Meta: &spool.Meta{Mode: "pipe"}, Outcome: &spool.Outcome{Size: 5}, Who: who})
	if len(events.list) != 0 {
		t.Errorf("told %q", events.list)
	}
}

func TestVerdictsAndCopiesAreTold(t *testing.T) {
	k, events := toldMachine()
	a := told{k.teller}
	a.Judged(t.Context(), "pipe", checkout(), &judge.Decision{
		Verdict: capture.Verdict{Action: capture.Forward}, Invalid: []judge.Invalid{{Where: judge.OnPod, Key: "k", Problem: "p", First: true}},
	}, 0)
	a.Copied(t.Context(), checkout(), "/data/core", nil)
	if !events.has(tell.InvalidSetting) || events.has(tell.CopyFailed) {
		t.Errorf("told %q", events.list)
	}
	a.Copied(t.Context(), checkout(), "", podcopy.ErrNoSpace)
	if !events.has(tell.CopyFailed) {
		t.Errorf("told %q", events.list)
	}
}
