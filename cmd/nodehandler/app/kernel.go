// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/capture/notify"
	"example.io/coredump/pkg/dumpdir"
	"example.io/coredump/pkg/identity"
	"example.io/coredump/pkg/judge"
	"example.io/coredump/pkg/podcontext"
	"example.io/coredump/pkg/podcopy"
	"example.io/coredump/pkg/spool"
	"example.io/coredump/pkg/spooled"
	"example.io/coredump/pkg/tell"
	"example.io/coredump/pkg/witness"
)

const (
	// judgeFile and podsFile are in the spool: what is remembered over a restart.
	judgeFile, podsFile = "judge.json", "pods.json"
	// statePause is how long changes are gathered before they are written there.
	statePause = 5 * time.Second
	// logBytes bounds what is stored of a container's log.
	logBytes = 1 << 20
	// copies that pods want: how many at once, and what stays free where they go.
	copiesPrepared, copiesWritten, copyFreePercent = 8, 2, 10
	// spoolEntries bounds the dumps that wait.
	spoolEntries = 4096
)

// kernel is what takes the dumps that the kernel delivers, as far as it is in this program.
type kernel struct {
	config  *config
	capture capture.Config
	spool   *spool.Spool
	who     *identifier
	judge   *judge.Judge
	copier  *podcopy.Copier
	teller  *tell.Teller
	witness *witness.Witness
	source  *spooled.Source
}

func (c *config) newKernel(ctx context.Context, who *identifier, teller *tell.Teller) (*kernel, error) {
	o := &c.kernel
	s, err := spool.Open(filepath.Join(c.dir, dumpdir.SpoolDir))
	if err != nil {
		return nil, err
	}
	k := &kernel{config: c, spool: s, who: who, teller: teller}
	if k.capture, err = c.captureConfig(s); err != nil {
		s.Close()
		return nil, err
	}
	k.judge = judge.New(judge.Config{
		Capture: o.captureDefault == enabled, NamespaceWins: o.namespaceWins, OptedOut: capture.Action(o.optedOut), MaxSize: c.maxSize,
		MaxPerHour: o.perHour, MaxPerSite: o.perSite, MaxPerNamespace: o.perNamespace, Concurrent: o.maxCaptures,
	}, clock.RealClock{})
	k.copier = podcopy.New(podcopy.Limits{MaxSize: c.maxSize, FreePercent: copyFreePercent, Preparing: copiesPrepared, Writing: copiesWritten})
	gatherer := &podcontext.Gatherer{
		Pods: who.pods, Runtime: who.runtime, EnvValues: o.environValues, Cmdline: o.cmdline,
		Logs: podcontext.Logs{Root: o.logDir, Lines: o.logLines, Bytes: logBytes},
	}
	k.witness = witness.New(witness.Options{
		Spool: s, Locator: who.locator, Judge: k.judge, Gather: gatherer.Gather, Copier: k.copier, Teller: told{teller},
		Finished: func(string) { k.source.Look() },
	})
	k.source = spooled.New(spooled.Options{
		Spool: s, Place: who.place, Locator: who.locator, Gather: gatherer.Gather, Attended: k.witness.Attended, Ended: k.ended, Salvaged: k.salvaged,
		Wanted: func(w identity.Who) bool { return k.judge.Wanted(witness.Subject(w)) },
	})
	for what, err := range map[string]error{
		"dumps are counted anew": k.judge.Load(k.file(judgeFile)), "deleted pods are not remembered": who.remember(k.file(podsFile)),
	} {
		if err != nil {
			klog.FromContext(ctx).Error(err, "What an earlier run wrote down cannot be used", "so", what)
		}
	}
	return k, nil
}

func (k *kernel) file(name string) string { return filepath.Join(k.spool.Path(), name) }

// captureConfig is what corepipe, and mode socket, go by.
func (c *config) captureConfig(s *spool.Spool) (capture.Config, error) {
	o := &c.kernel
	path, err := filepath.Abs(s.Path())
	if err != nil {
		return capture.Config{}, err
	}
	free := c.limits.minFree
	if c.limits.minFreePercent > 0 {
		if free, err = percent(s.Path(), c.limits.minFreePercent); err != nil {
			return capture.Config{}, err
		}
	}
	cc := capture.DefaultConfig()
	cc.Version, cc.Spool = version(), path
	cc.MaxSize, cc.CutSize, cc.SpoolBytes, cc.SpoolEntries = c.maxSize, c.limits.cut, c.limits.spool, spoolEntries
	cc.MinFreeBytes, cc.MinFreeInodes = free, int64(o.minFreeInodes)
	cc.Deadline, cc.StallTimeout, cc.AnswerTimeout = capture.Duration(o.deadline), capture.Duration(o.stall), capture.Duration(o.answer)
	cc.MaxConcurrent = o.maxCaptures
	if o.cmdline {
		cc.ProcFiles = append(cc.ProcFiles, "cmdline")
	}
	if o.environ || o.environValues {
		cc.ProcFiles = append(cc.ProcFiles, "environ")
	}
	cc.EnvironValues = o.environValues
	return cc, cc.Validate()
}

// run takes dumps until ctx ends, and gives the host its own settings back then if that is wanted.
func (k *kernel) run(ctx context.Context) error {
	loops, ctx := errgroup.WithContext(ctx)
	loops.Go(func() error {
		k.judge.Keep(ctx, k.file(judgeFile), statePause, clock.RealClock{}, func(err error) {
			klog.FromContext(ctx).Error(err, "The counts of dumps cannot be written down")
		})
		return nil
	})
	loops.Go(func() error { return k.measure(ctx) })
	switch k.config.kernel.capture {
	case capturePipe:
		loops.Go(func() error { return k.answer(ctx) })
		loops.Go(func() error { return k.settings(ctx) })
	case captureSocket:
		loops.Go(func() error { return k.listen(ctx) })
	}
	err := loops.Wait()
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.config.grace)
	defer cancel()
	k.witness.Wait(ending)
	return err
}

// answer tells corepipe what to do with each dump.
func (k *kernel) answer(ctx context.Context) error {
	l, err := notify.Listen(k.spool)
	if err != nil {
		return err
	}
	server := &notify.Server{
		// Less than corepipe waits: an answer that comes as it gives up is none.
		Handler: k.witness, Answer: k.config.kernel.answer / 5 * 4,
		Failed: func(err error) { klog.FromContext(ctx).Info("A question of corepipe was not answered", "err", err) },
	}
	return server.Serve(ctx, l)
}

// measure sets the gauges now and then.
func (k *kernel) measure(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		if err := k.measureOnce(ctx); err != nil {
			klog.FromContext(ctx).Error(err, "The spool cannot be measured")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (k *kernel) measureOnce(ctx context.Context) error {
	tell.SetActive(k.judge.Active())
	tell.SetHung(k.copier.Hung())
	lost, err := k.spool.TakeLost()
	if err != nil {
		return err
	}
	k.teller.Lost(ctx, lost)
	usage, err := k.spool.Usage()
	if err != nil {
		return err
	}
	var n [3]int
	for i, list := range []func() ([]string, error){k.spool.Incoming, k.spool.Ready, k.spool.Aside} {
		names, err := list()
		if err != nil {
			return err
		}
		n[i] = len(names)
	}
	tell.SetSpool(usage.Bytes, n[0], n[1], n[2])
	limits := k.capture.Limits()
	room, err := k.spool.Room(limits.Spool)
	if err == nil && (!room.Entry || room.Bytes < capture.MinRoom) {
		k.teller.SpoolFull(ctx, fmt.Sprintf("%d dumps of %d bytes wait in %s", usage.Entries, usage.Bytes, k.spool.Path()))
	}
	return err
}

// close gives up the spool.
func (k *kernel) close() error { return k.spool.Close() }
