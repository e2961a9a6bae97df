// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spooled

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"time"

	"k8s.io/klog/v2"

	"example.io/coredump/pkg/identity"
	"example.io/coredump/pkg/spool"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/upload"
)

const (
	// askTime bounds one question whose a dump is, asked after the crash.
	askTime = 10 * time.Second
	// askBudget is how long a scan goes on asking: while nobody answers, thousands of entries may wait for an answer, and others for the next scan.
	askBudget = 5 * time.Second
	// toldFile is the mark of an entry that Ended has been told of, for the next start.
	toldFile = "told"
)

// settleAll settles entries for as long as a scan may take, and begins with the one after which the last scan stopped.
func (s *Source) settleAll(ctx context.Context, names []string) {
	first := sort.Search(len(names), func(i int) bool { return names[i] > s.asked })
	start := time.Now()
	for i := range names {
		name := names[(first+i)%len(names)]
		if ctx.Err() != nil || time.Since(start) > askBudget {
			return
		}
		s.beat.Store(time.Now().UnixNano())
		s.asked = name
		err := s.settleEntry(ctx, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, upload.ErrGone) && !errors.Is(err, errUnknown) {
			klog.FromContext(ctx).V(2).Info("An entry of the spool cannot be settled yet", "entry", name, "err", err)
		}
	}
}

func (s *Source) settleEntry(ctx context.Context, name string) error {
	e, err := s.opts.Spool.Entry(name)
	if err != nil {
		return err
	}
	defer e.Close()
	meta, outcome, err := read(e)
	if err != nil {
		return err
	}
	_, err = s.settle(ctx, e, meta, outcome)
	return err
}

// settle finds out whose a dump is, tells of it, and removes it if there is no core to be kept (upload.ErrGone). Other errors are those of whose. It may be
// called by the loop and by an upload at the same time.
func (s *Source) settle(ctx context.Context, e *spool.Entry, meta *spool.Meta, outcome *spool.Outcome) (identity.Who, error) {
	who, err := s.whose(ctx, e, meta)
	if err != nil && !errors.Is(err, errUnknown) && ctx.Err() == nil && outcome.Suppressed != "" && s.tooMany.Add(-1) >= 0 {
		err = fmt.Errorf("%w: too many wait for an answer: %w", errUnknown, err)
	}
	if err != nil && !errors.Is(err, errUnknown) {
		return who, err
	}
	o := *outcome
	if err == nil && o.Suppressed == "" && !o.Answered && s.opts.Wanted != nil && !s.opts.Wanted(who) {
		o.Suppressed, o.Truncated = spool.ReasonOptedOut, ""
	}
	s.tell(ctx, e, &Ended{Entry: e.Name(), Meta: meta, Outcome: &o, Who: who, Known: err == nil})
	if o.Suppressed == "" {
		return who, err
	}
	if err := s.opts.Spool.Remove(e.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return who, err
	}
	return who, fmt.Errorf("%w: nothing of it is kept (%s)", upload.ErrGone, o.Suppressed)
}

// tell tells of an entry, if that was not done yet. That it was is also kept in memory: the disk may be too full for the mark.
func (s *Source) tell(ctx context.Context, e *spool.Entry, ended *Ended) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, told := s.told[e.Name()]; told {
		return
	}
	s.told[e.Name()] = ended.Outcome.Suppressed != ""
	if f, err := e.Open(toldFile); err == nil {
		f.Close()
		return
	}
	if ended.Known {
		ended.Name = storage.Key{Namespace: ended.Who.Namespace, Pod: ended.Who.Pod, Container: ended.Who.Container, ID: id(ended.Meta)}.Name()
	}
	if s.opts.Ended != nil {
		s.opts.Ended(ctx, ended)
	}
	if err := e.WriteFile(toldFile, nil); err != nil && !errors.Is(err, fs.ErrNotExist) {
		klog.FromContext(ctx).Error(err, "A dump that was told of cannot be marked, and is told of again after a restart", "entry", e.Name())
	}
}

func (s *Source) wasTold(name string) (remove, told bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	remove, told = s.told[name]
	return remove, told
}

// forgetAllBut forgets the entries that are gone.
func (s *Source) forgetAllBut(names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.told {
		if i := sort.SearchStrings(names, name); i == len(names) || names[i] != name {
			delete(s.told, name)
		}
	}
}
