// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spooled

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"k8s.io/klog/v2"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/bundle"
	"example.io/coredump/pkg/cgroup"
	"example.io/coredump/pkg/identity"
	"example.io/coredump/pkg/spool"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/upload"
)

// dump is a finished entry with a core. It implements upload.Dump.
type dump struct {
	source *Source
	name   string
}

// Path is the entry's place in the spool.
func (d *dump) Path() string { return "spool/" + d.name }

// Recheck makes the source look at the spool again.
func (d *dump) Recheck() { d.source.Look() }

// Open opens the entry. Nobody but us can change it.
func (d *dump) Open() (*upload.Opened, error) {
	e, err := d.source.opts.Spool.Entry(d.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, upload.ErrGone
	}
	if err != nil {
		return nil, err
	}
	o, err := d.open(e)
	if err != nil {
		e.Close()
	}
	return o, err
}

func (d *dump) open(e *spool.Entry) (*upload.Opened, error) {
	meta, outcome, err := read(e)
	if err != nil {
		return nil, err
	}
	core, err := e.OpenCore()
	if err != nil {
		return nil, err
	}
	st, err := core.Stat()
	if err != nil {
		core.Close()
		return nil, err
	}
	file := &file{File: core, dump: d, entry: e}
	return &upload.Opened{
		Record: record(meta, outcome),
		ID:     id(meta),
		Codec:  storage.CodecNone,
		Size:   st.Size(),
		File:   file,
		Identify: func(ctx context.Context, rec *v1alpha1.CoreDump) error {
			return d.identify(ctx, file, meta, outcome, rec)
		},
		Context: func(ctx context.Context) ([]bundle.File, error) { return d.context(ctx, file, meta) },
	}, nil
}

// identify fills in whose it is, and sees to it that the dump has been told of before it leaves the node. What nobody can say goes where only administrators find it.
func (d *dump) identify(ctx context.Context, f *file, meta *spool.Meta, outcome *spool.Outcome, rec *v1alpha1.CoreDump) error {
	who, err := d.source.settle(ctx, f.entry, meta, outcome)
	if err == nil {
		who.Fill(rec)
		f.who = &who
		return nil
	}
	if !errors.Is(err, errUnknown) {
		return err
	}
	place := d.source.opts.Place
	klog.FromContext(ctx).Info("[coredump] A dump is kept for administrators only", "file", d.Path(), "why", err.Error())
	rec.Namespace = storage.UnknownNamespace
	rec.Spec.PodName, rec.Spec.ContainerName = place.NodeName, storage.UnknownContainer
	rec.Spec.NodeName, rec.Spec.ClusterName = place.NodeName, place.ClusterName
	rec.Spec.Capture.Identity = v1alpha1.IdentityUnknown
	return nil
}

// context gives what was collected beside the core, and what was not, if it can be had now.
func (d *dump) context(ctx context.Context, f *file, meta *spool.Meta) ([]bundle.File, error) {
	names, err := f.entry.ContextFiles()
	if err != nil {
		return nil, err
	}
	var files []bundle.File
	room := int64(bundle.MaxSize)
	fromKubernetes := false
	for _, name := range names {
		data, err := f.entry.ReadFile(name, room)
		if err != nil {
			klog.FromContext(ctx).V(2).Info("A file of the context is left out", "file", d.Path(), "name", name, "err", err)
			continue
		}
		file := bundle.File{Name: strings.TrimPrefix(name, spool.ContextDir+"/"), Data: data}
		fromKubernetes = fromKubernetes || !strings.HasPrefix(file.Name, "proc/")
		files = append(files, file)
		room -= int64(len(data))
	}
	if fromKubernetes || f.who == nil || d.source.opts.Gather == nil {
		return files, nil
	}
	id, err := cgroup.Parse(meta.Cgroup)
	if err != nil {
		return files, nil
	}
	late, err := d.source.opts.Gather(ctx, id, *f.who)
	if err != nil {
		klog.FromContext(ctx).Info("A part of the context of a dump cannot be had", "file", d.Path(), "err", err)
	}
	return append(files, late...), nil
}

// file is the core of an entry. It implements upload.File.
type file struct {
	*os.File
	dump  *dump
	entry *spool.Entry
	who   *identity.Who
}

func (f *file) Close() error { return errors.Join(f.File.Close(), f.entry.Close()) }

// Unchanged holds: what is in ready is not written to any more.
func (f *file) Unchanged() error { return nil }

// Remove removes the entry.
func (f *file) Remove() error { return f.dump.source.opts.Spool.Remove(f.dump.name) }

// SetAside keeps the entry in the spool's own place for that.
func (f *file) SetAside(reason upload.Reason, why string) error {
	return f.dump.source.opts.Spool.SetAside(f.dump.name, string(reason)+": "+why)
}
