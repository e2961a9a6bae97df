// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/spool"
)

// Config is what the admin of the node allows.
type Config struct {
	// Capture is what holds where neither namespace nor pod say anything.
	Capture bool
	// NamespaceWins makes the labels of a namespace weigh more than the annotations of its pods.
	NamespaceWins bool
	// OptedOut is what is done with dumps that nobody wants: capture.Drop or capture.Forward.
	OptedOut capture.Action
	// MaxSize is the largest core that is taken whole, in bytes.
	MaxSize int64
	// MaxPerHour, MaxPerSite and MaxPerNamespace bound the dumps that are kept in an hour: of a workload, of one place in the code of a
	// workload, and of a namespace, whatever its pods are called. 0: no bound for sites or namespaces.
	MaxPerHour, MaxPerSite, MaxPerNamespace int
	// Concurrent bounds the dumps that are taken at once. One namespace has half of it at most: who makes his dumps slow (userfaultfd, FUSE) holds up
	// his own.
	Concurrent int
}

// Subject is who crashed. Its zero value is somebody who could not be identified.
type Subject struct {
	Namespace string
	// OwnerKind and OwnerName name the controller of the pod; empty where it has none.
	OwnerKind, OwnerName string
	// PodName and PodUID tell pods apart.
	PodName, PodUID string
	// NamespaceLabels and PodAnnotations are not changed and not kept.
	NamespaceLabels, PodAnnotations map[string]string
}

// Workload is what dumps are counted by: the controller of a pod, or a pod that has none.
type Workload struct {
	Namespace, Kind, Name string
}

// UnknownWorkload counts crashes of whoever cannot be identified.
var UnknownWorkload = Workload{Namespace: "_unknown"}

// Workload gives what the subject's dumps are counted by.
func (s *Subject) Workload() Workload {
	switch {
	case s.Namespace == "":
		return UnknownWorkload
	case s.OwnerName != "":
		return Workload{s.Namespace, s.OwnerKind, s.OwnerName}
	}
	return Workload{s.Namespace, "Pod", s.PodName + "/" + s.PodUID}
}

// Counts say how a workload did in the hour that began with Since, the time of its first crash in it.
type Counts struct {
	Since            time.Time
	Kept, Suppressed int
}

// Judge judges. Safe for concurrent use.
type Judge struct {
	config Config
	clock  clock.PassiveClock

	mu         sync.Mutex
	workloads  *recent[Workload, window]
	namespaces *recent[string, window]
	told       *recent[toldKey, struct{}]
	active     int
	// activeIn is how many of them are of a namespace.
	activeIn map[string]int
	// changed is signalled after each change of what a restart should not forget.
	changed chan struct{}
}

const (
	// Bounds of what is remembered. Who is forgotten starts a new hour.
	maxWorkloads, maxNamespaces, maxTold = 4096, 1024, 4096
)

type toldKey struct{ subject, key, problem string }

// New makes a judge who remembers nothing.
func New(c Config, clk clock.PassiveClock) *Judge {
	return &Judge{
		config: c, clock: clk, changed: make(chan struct{}, 1), activeIn: map[string]int{},
		workloads:  newRecent[Workload, window](maxWorkloads),
		namespaces: newRecent[string, window](maxNamespaces),
		told:       newRecent[toldKey, struct{}](maxTold),
	}
}

// Decision is a judgement.
type Decision struct {
	Verdict  capture.Verdict
	Workload Workload
	// Counts are those of the workload, this crash included; zero where the dump is not wanted, for nobody counts those.
	Counts Counts
	// Invalid are the settings of namespace and pod that mean nothing.
	Invalid []Invalid

	// counted is the judge whose counts have the crash, judge the one with whom it is active; nil where there is none.
	counted, judge *Judge
	once           sync.Once
}

// Judge decides about a crash. The caller calls Done of the decision, whatever it is, when the capture is over.
func (j *Judge) Judge(s Subject) *Decision {
	w := j.config.read(s.NamespaceLabels, s.PodAnnotations)
	d := &Decision{Workload: s.Workload(), Invalid: w.invalid}
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range d.Invalid {
		d.Invalid[i].First = j.firstTime(&s, &d.Invalid[i])
	}
	if !w.capture {
		d.Verdict = capture.Verdict{Action: j.config.OptedOut}
		if d.Verdict.Action != capture.Forward {
			d.Verdict = capture.Verdict{Action: capture.Drop, Reason: spool.ReasonOptedOut}
		}
		return d
	}
	now := j.clock.Now()
	d.counted = j
	own, ns := j.windows(d.Workload, now)
	defer func() { d.Counts = own.counts(); j.signal() }()
	reason := spool.Reason("")
	switch {
	case own.full(w.maxRate, maxRefunds) || j.config.MaxPerNamespace > 0 && ns.full(j.config.MaxPerNamespace, maxNamespaceRefunds):
		reason = spool.ReasonRateLimit
	case j.active >= j.config.Concurrent, j.activeIn[d.Workload.Namespace] >= (j.config.Concurrent+1)/2:
		reason = spool.ReasonConcurrency
	}
	if reason != "" {
		own.suppressed++
		ns.suppressed++
		d.Verdict = capture.Verdict{Action: capture.Drop, Reason: reason}
		return d
	}
	own.kept++
	ns.kept++
	j.active++
	j.activeIn[d.Workload.Namespace]++
	d.judge = j
	d.Verdict = capture.Verdict{Action: capture.Keep, MaxSize: w.maxSize, Sites: own.exhausted(j.config.MaxPerSite)}
	return d
}

// Done tells how the capture ended. A dump that was not kept after all is not counted as kept. It may be called more than once, the first
// call counts.
func (d *Decision) Done(o spool.Outcome) {
	d.once.Do(func() {
		if d.judge == nil {
			return
		}
		j := d.judge
		j.mu.Lock()
		defer j.mu.Unlock()
		j.over(d.Workload.Namespace)
		own, ns := j.windows(d.Workload, j.clock.Now())
		j.end(own, ns, &o)
	})
}

// Forget takes the judgement back, as if it had never been made, because nobody acted on it: whoever took the dump did so without it, or was
// killed. Count counts the dump when it is known how it ended. Like Done, and instead of it, it is called once.
func (d *Decision) Forget() {
	d.once.Do(func() {
		if d.counted == nil {
			return
		}
		j := d.counted
		j.mu.Lock()
		defer j.mu.Unlock()
		own, ns := j.windows(d.Workload, j.clock.Now())
		for _, w := range []*window{own, ns} {
			// The hour may have changed since it was counted.
			if d.judge != nil {
				w.kept = max(w.kept-1, 0)
			} else {
				w.suppressed = max(w.suppressed-1, 0)
			}
		}
		if d.judge != nil {
			j.over(d.Workload.Namespace)
		}
		j.signal()
	})
}

// Wanted tells whether dumps of the subject are wanted. Nothing is counted, and nobody told.
func (j *Judge) Wanted(s Subject) bool {
	return j.config.read(s.NamespaceLabels, s.PodAnnotations).capture
}

// over is called at the end of a capture.
func (j *Judge) over(namespace string) {
	j.active--
	if j.activeIn[namespace]--; j.activeIn[namespace] <= 0 {
		delete(j.activeIn, namespace)
	}
}

// Count takes into account a dump that was taken, or suppressed, without a judgement: nobody was there in time.
func (j *Judge) Count(s Subject, o spool.Outcome) {
	j.mu.Lock()
	defer j.mu.Unlock()
	own, ns := j.windows(s.Workload(), j.clock.Now())
	own.kept++
	ns.kept++
	j.end(own, ns, &o)
}

// end takes the outcome of a capture into account that was counted as kept.
func (j *Judge) end(own, ns *window, o *spool.Outcome) {
	if own.end(o) {
		own.at(o.Site)
	}
	ns.end(o)
	j.signal()
}

// Counts tells how a workload does.
func (j *Judge) Counts(w Workload) Counts {
	j.mu.Lock()
	defer j.mu.Unlock()
	if own := j.workloads.peek(w); own != nil && !own.over(j.clock.Now()) {
		return own.counts()
	}
	return Counts{}
}

// Active is the number of captures that have begun and not ended.
func (j *Judge) Active() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.active
}

// windows gives the current hours of a workload and its namespace.
func (j *Judge) windows(w Workload, now time.Time) (own, ns *window) {
	own, ns = j.workloads.get(w), j.namespaces.get(w.Namespace)
	for _, h := range []*window{own, ns} {
		if h.over(now) {
			*h = window{start: now}
		}
	}
	return own, ns
}

func (j *Judge) firstTime(s *Subject, i *Invalid) bool {
	key := toldKey{s.Namespace, i.Key, i.Problem}
	if i.Where == OnPod {
		key.subject = s.PodUID
	}
	known := j.told.peek(key) != nil
	j.told.get(key)
	return !known
}

func (j *Judge) signal() {
	select {
	case j.changed <- struct{}{}:
	default:
	}
}

// exhausted gives the sites of which there have been enough.
func (w *window) exhausted(most int) (sites []string) {
	if most <= 0 {
		return nil
	}
	for _, s := range w.sites {
		if s.kept >= most {
			sites = append(sites, s.site)
		}
	}
	return slices.Clip(sites)
}
