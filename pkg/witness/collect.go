// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"example.io/coredump/pkg/cgroup"
	"example.io/coredump/pkg/identity"
	"example.io/coredump/pkg/podcopy"
	"example.io/coredump/pkg/spool"
)

// collect writes down whose the dump is, and what is known of pod and container.
func (w *Witness) collect(ctx context.Context, a *attendance, known bool) {
	defer close(a.collected)
	ctx, cancel := context.WithTimeout(ctx, collectTime)
	defer cancel()
	log := klog.FromContext(ctx)
	who, err := a.who, errUnverified
	for !known && a.crash.Meta.Verified && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(askAgain):
		}
		who, err = w.locate(ctx, &a.crash.Meta)
		known = err == nil
		if !errors.Is(err, identity.ErrNotYet) {
			break
		}
	}
	if !known {
		log.V(2).Info("Whose a dump is will be asked again when it is uploaded", "entry", a.crash.Entry, "err", err)
		return
	}
	e := w.write(ctx, a, who)
	if e == nil {
		return
	}
	defer e.Close()
	id, err := cgroup.Parse(a.crash.Meta.Cgroup)
	if err != nil {
		return // it could be when it was known whose it is
	}
	files, err := w.opts.Gather(ctx, id, who)
	if err != nil {
		log.Info("A part of the context of a dump cannot be had", "entry", a.crash.Entry, "err", err)
	}
	for _, f := range files {
		if err := e.WriteFile(spool.ContextDir+"/"+f.Name, f.Data); err != nil {
			log.Error(err, "A file of the context is left out", "entry", a.crash.Entry, "name", f.Name)
		}
	}
}

// note writes down whose a dump is of which nothing is kept, if that is known: there is somebody to be told that it was not.
func (w *Witness) note(ctx context.Context, a *attendance, known bool) {
	defer close(a.collected)
	if !known {
		return
	}
	if e := w.write(ctx, a, a.who); e != nil {
		e.Close()
	}
}

// write writes down whose a dump is. It gives the entry, which the caller closes, or nil where it cannot be opened.
func (w *Witness) write(ctx context.Context, a *attendance, who identity.Who) *spool.Entry {
	e, err := w.opts.Spool.Entry(a.crash.Entry)
	if err != nil {
		klog.FromContext(ctx).Error(err, "The entry of a dump that is being taken cannot be opened", "entry", a.crash.Entry)
		return nil
	}
	data, err := who.Encode()
	if err == nil {
		err = e.WriteFile(spool.IdentityFile, data)
	}
	if err != nil {
		klog.FromContext(ctx).Error(err, "Whose a dump is cannot be written down; it is asked again when it is uploaded", "entry", a.crash.Entry)
	}
	return e
}

// prepare opens the directory where the pod wants a copy.
func (w *Witness) prepare(ctx context.Context, a *attendance) {
	defer close(a.prepared)
	pattern, wanted := a.who.Annotations[podcopy.Key]
	if !wanted || !a.who.Verified {
		return
	}
	if a.crash.Root == nil {
		w.opts.Teller.Copied(ctx, a.who, "", errNoRoot)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second) // the process may be held for this
	defer cancel()
	m := &a.crash.Meta
	target, err := w.opts.Copier.Prepare(ctx, a.crash.Root, pattern, values(m, a.who), w.owner(a), m.Dumpable)
	if err != nil {
		w.opts.Teller.Copied(ctx, a.who, "", err)
		return
	}
	a.target = target
}

// errNoRoot is told where a pod wants a copy and there is no way to its files.
var errNoRoot = errors.New("the process was gone before its file system could be opened")

// copy writes the copy that the pod wants, of a dump that is complete as far as it will ever be.
func (w *Witness) copy(ctx context.Context, a *attendance, o *spool.Outcome) {
	if a.target == nil {
		return
	}
	defer a.target.Close()
	if o == nil || o.Suppressed != "" {
		return // there is no dump, or its taker still writes to it
	}
	path := a.target.Path()
	w.opts.Teller.Copied(ctx, a.who, path, w.copyTo(ctx, a))
}

func (w *Witness) copyTo(ctx context.Context, a *attendance) error {
	e, err := w.opts.Spool.Entry(a.crash.Entry)
	if err != nil {
		return err
	}
	defer e.Close()
	core, err := e.OpenCore()
	if err != nil {
		return err
	}
	defer core.Close()
	ctx, cancel := context.WithTimeout(ctx, copyTime)
	defer cancel()
	_, err = a.target.Write(ctx, core)
	return err
}

// values are what the pattern of a copy may name.
func values(m *spool.Meta, who identity.Who) podcopy.Values {
	return podcopy.Values{
		PID: m.PID, TID: m.TID, UID: m.UID, GID: m.GID, Signal: m.Signal, Time: m.CrashTime / int64(time.Second),
		Comm: m.Comm, Exe: m.Exe, Host: who.Pod,
	}
}

// owner is whose rights the copy is written with.
func (w *Witness) owner(a *attendance) podcopy.Owner {
	m := &a.crash.Meta
	o := podcopy.Owner{UID: id(m.UID), GID: id(m.GID)}
	e, err := w.opts.Spool.Entry(a.crash.Entry)
	if err != nil {
		return o
	}
	defer e.Close()
	status, err := e.ReadFile(spool.ContextDir+"/proc/status", 64<<10)
	if err != nil {
		return o // fewer rights, not more
	}
	o.Groups = groups(string(status))
	return o
}

// id is a user or group id; what is none is that of nobody, see the overflow ids in user_namespaces(7).
func id(n int64) uint32 {
	if n < 0 || n >= math.MaxUint32 {
		return 65534
	}
	return uint32(n)
}

// groups are the supplementary groups in /proc/<pid>/status, see proc_pid_status(5).
func groups(status string) (list []uint32) {
	for line := range strings.Lines(status) {
		ids, ok := strings.CutPrefix(line, "Groups:")
		if !ok {
			continue
		}
		for field := range strings.FieldsSeq(ids) {
			if n, err := strconv.ParseUint(field, 10, 32); err == nil {
				list = append(list, uint32(n))
			}
		}
		return list
	}
	return nil
}
