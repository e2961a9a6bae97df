// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	cliflag "k8s.io/component-base/cli/flag"
)

// The values of --capture.
const (
	capturePipe   = "pipe"
	captureSocket = "socket"
	captureFile   = "file"
)

// The values of --capture-default and --opted-out.
const (
	enabled, disabled = "enabled", "disabled"
	drop, forward     = "drop", "forward"
)

// kernelOptions are the flags that are about dumps which the kernel delivers.
type kernelOptions struct {
	capture string

	hostDir, procSys, corepipe, socket string
	pipeLimit                          int
	suidDumpable                       string
	force, restoreOnExit               bool
	heal                               time.Duration

	cutSize, spoolSize, minFree string
	minFreeInodes               int
	deadline, stall, answer     time.Duration
	maxCaptures                 int
	perHour, perSite            int
	perNamespace                int

	captureDefault, optedOut string
	namespaceWins            bool

	criEndpoint, logDir   string
	logLines              int
	cmdline, environ      bool
	environValues, events bool
}

func newKernelOptions() kernelOptions {
	return kernelOptions{
		capture: capturePipe,
		hostDir: "/opt/coredump", procSys: "/proc/sys", corepipe: "/corepipe", socket: "/run/coredump/core.sock",
		pipeLimit: 16, suidDumpable: "keep", heal: 10 * time.Second,
		cutSize: "64Mi", spoolSize: "64Gi", minFree: "10%", minFreeInodes: 10_000,
		deadline: 10 * time.Minute, stall: time.Minute, answer: 500 * time.Millisecond,
		maxCaptures: 8, perHour: 10, perSite: 3, perNamespace: 100,
		captureDefault: enabled, optedOut: drop,
		logDir: "/var/log/pods", logLines: 500, events: true,
	}
}

func (o *kernelOptions) flags(nfs *cliflag.NamedFlagSets) {
	fs := nfs.FlagSet("capture")
	fs.StringVar(&o.capture, "capture", o.capture, "How crashes are captured. pipe: the kernel gives every dump to a small program on the host, corepipe. socket: the kernel sends it to this program (Linux 6.17). "+
		"file: only what others write into DIRECTORY; the host's settings stay as they are. Files in DIRECTORY are uploaded in every mode.")
	fs.StringVar(&o.hostDir, "host-dir", o.hostDir, "Directory of the host, by the same path here, for corepipe and for the host's original settings. Its file system must allow programs to be run (not noexec).")
	fs.StringVar(&o.procSys, "proc-sys", o.procSys, "Where the host's /proc/sys can be written.")
	fs.StringVar(&o.corepipe, "corepipe", o.corepipe, "The program corepipe that is copied to --host-dir.")
	fs.StringVar(&o.socket, "core-socket", o.socket, "Socket of mode socket, in a directory of the host that only root can enter, by the same path here.")
	fs.IntVar(&o.pipeLimit, "core-pipe-limit", o.pipeLimit, "kernel.core_pipe_limit: how many dumps the kernel delivers at a time, in mode pipe. It drops the others.")
	fs.StringVar(&o.suidDumpable, "suid-dumpable", o.suidDumpable, "fs.suid_dumpable: keep, 0 or 2. With 2, setuid programs and those that changed their user without exec leave dumps too, which administrators alone can see; 1 is not safe and not offered.")
	fs.BoolVar(&o.force, "force-core-pattern", o.force, "Replace a core_pattern that forbids dumps, such as |/bin/false, too.")
	fs.BoolVar(&o.restoreOnExit, "restore-on-exit", o.restoreOnExit, "Give the host its own settings back on SIGTERM. Without it dumps are taken while this program is replaced, and `nodehandler uninstall` gives them back.")
	fs.DurationVar(&o.heal, "heal-interval", o.heal, "How often the host's settings are looked at, and put right where somebody changed them.")

	fs = nfs.FlagSet("limits")
	fs.StringVar(&o.cutSize, "cut-size", o.cutSize, "What is kept of a core that is over --max-size: its first bytes, with the headers and notes in any case.")
	fs.StringVar(&o.spoolSize, "spool-size", o.spoolSize, "How many bytes of dumps wait on this node at most, such as 64Gi.")
	fs.StringVar(&o.minFree, "min-free", o.minFree, "What stays free on the file system of DIRECTORY: bytes (20Gi) or a part of it (10%).")
	fs.IntVar(&o.minFreeInodes, "min-free-inodes", o.minFreeInodes, "How many inodes stay free there.")
	fs.DurationVar(&o.deadline, "hold-deadline", o.deadline, "How long a crashed process is held at most for its dump to be taken.")
	fs.DurationVar(&o.stall, "hold-stall-timeout", o.stall, "How long it is held without a byte of its dump coming.")
	fs.DurationVar(&o.answer, "answer-timeout", o.answer, "How long corepipe waits for this program to say whose a dump is and whether to take it, before it goes on alone.")
	fs.IntVar(&o.maxCaptures, "max-captures", o.maxCaptures, "How many dumps are taken at the same time, and half as many of one namespace.")
	fs.IntVar(&o.perHour, "max-per-hour", o.perHour, "How many dumps of a workload (the pods of one controller) are kept each hour; the others are counted.")
	fs.IntVar(&o.perSite, "max-per-site-per-hour", o.perSite, "How many of them from the same place in the program.")

	fs.IntVar(&o.perNamespace, "max-per-namespace-per-hour", o.perNamespace, "How many dumps of a namespace are kept each hour, whatever its pods are called; 0: any number.")

	fs = nfs.FlagSet("consent")
	fs.StringVar(&o.captureDefault, "capture-default", o.captureDefault, "Whether dumps are taken of pods that say nothing: enabled or disabled. The label coredump.example.io/capture of a namespace and the annotation of a pod say enabled or disabled.")
	fs.BoolVar(&o.namespaceWins, "namespace-wins", o.namespaceWins, "Let the namespace's label win over the pod's annotation.")
	fs.StringVar(&o.optedOut, "opted-out", o.optedOut, "What becomes of dumps that are not wanted: drop, or forward to the handler that the host had before.")

	fs = nfs.FlagSet("facts")
	fs.StringVar(&o.criEndpoint, "cri-endpoint", o.criEndpoint, "Socket of the container runtime (unix:///...). Empty: that of containerd, CRI-O or cri-dockerd, whichever is there.")
	fs.StringVar(&o.logDir, "pod-logs", o.logDir, "Where the kubelet keeps the logs of pods. Empty: no logs are taken.")
	fs.IntVar(&o.logLines, "log-lines", o.logLines, "How many lines of the container's log are stored beside a dump.")
	fs.BoolVar(&o.cmdline, "include-cmdline", o.cmdline, "Store the command line beside a dump, and the commands in the pod's specification.")
	fs.BoolVar(&o.environ, "include-environ", o.environ, "Store the names of the environment's variables beside a dump.")
	fs.BoolVar(&o.environValues, "include-environ-values", o.environValues, "Store their values too, and those in the pod's specification. They are often secrets.")
	fs.BoolVar(&o.events, "events", o.events, "Write Events on pods and on the node.")
}

// limits are the sizes among the options, in bytes. minFreePercent is set where minFree is not.
type limits struct {
	cut, spool, minFree int64
	minFreePercent      int
}

func (o *kernelOptions) validate(add func(format string, args ...any)) (l limits) {
	size := func(flag, text string) int64 {
		q, err := resource.ParseQuantity(text)
		if err != nil || q.Value() < 1 {
			add("%s %q: must be a positive number of bytes, such as 64Gi", flag, text)
		}
		return q.Value()
	}
	l.cut, l.spool = size("--cut-size", o.cutSize), size("--spool-size", o.spoolSize)
	if percent, ok := strings.CutSuffix(o.minFree, "%"); ok {
		var err error
		if l.minFreePercent, err = strconv.Atoi(percent); err != nil || l.minFreePercent < 0 || l.minFreePercent > 90 {
			add("--min-free %q: must be a number of bytes or from 0%% to 90%%", o.minFree)
		}
	} else {
		l.minFree = size("--min-free", o.minFree)
	}
	for _, c := range []struct {
		flag, value string
		allowed     []string
	}{
		{"--capture", o.capture, []string{capturePipe, captureSocket, captureFile}},
		{"--capture-default", o.captureDefault, []string{enabled, disabled}},
		{"--opted-out", o.optedOut, []string{drop, forward}},
		{"--suid-dumpable", o.suidDumpable, []string{"keep", "0", "2"}},
	} {
		oneOf(add, c.flag, c.value, c.allowed)
	}
	for _, n := range []struct {
		flag            string
		value, from, to int
	}{
		{"--core-pipe-limit", o.pipeLimit, 1, 1024}, {"--max-captures", o.maxCaptures, 1, 1024}, {"--max-per-hour", o.perHour, 1, 1_000_000},
		{"--max-per-site-per-hour", o.perSite, 1, 1_000_000}, {"--max-per-namespace-per-hour", o.perNamespace, 0, 1_000_000},
		{"--min-free-inodes", o.minFreeInodes, 0, 1 << 30}, {"--log-lines", o.logLines, 0, 100_000},
	} {
		if n.value < n.from || n.value > n.to {
			add("%s %d: must be from %d to %d", n.flag, n.value, n.from, n.to)
		}
	}
	for _, d := range []struct {
		flag        string
		value       time.Duration
		least, most time.Duration
	}{
		{"--hold-deadline", o.deadline, time.Second, time.Hour}, {"--hold-stall-timeout", o.stall, time.Second, time.Hour},
		{"--answer-timeout", o.answer, 10 * time.Millisecond, 10 * time.Second}, {"--heal-interval", o.heal, time.Second, time.Hour},
	} {
		if d.value < d.least || d.value > d.most {
			add("%s %v: must be from %v to %v", d.flag, d.value, d.least, d.most)
		}
	}
	if o.answer > o.deadline {
		add("--answer-timeout %v: must not be longer than --hold-deadline %v", o.answer, o.deadline)
	}
	for _, p := range []struct{ flag, value string }{{"--host-dir", o.hostDir}, {"--proc-sys", o.procSys}, {"--corepipe", o.corepipe}, {"--core-socket", o.socket}} {
		if !filepath.IsAbs(p.value) || strings.ContainsAny(p.value, " \t\n%") {
			add("%s %q: must be an absolute path without blanks and percent signs", p.flag, p.value)
		}
	}
	return l
}

func oneOf(add func(string, ...any), flag, value string, allowed []string) {
	if slices.Contains(allowed, value) {
		return
	}
	add("%s %q: must be %s or %s", flag, value, strings.Join(allowed[:len(allowed)-1], ", "), allowed[len(allowed)-1])
}
