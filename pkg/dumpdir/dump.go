// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package dumpdir

import (
	"errors"
	"io/fs"
	"path"

	"example.io/coredump/pkg/upload"
)

// dump is a finished file. It implements upload.Dump.
type dump struct {
	w     *Watcher
	path  string
	state state
}

// Path is relative to the watched directory.
func (d *dump) Path() string { return d.path }

// Recheck makes the watcher look at the file again, which must rest the longer the more often this happens.
func (d *dump) Recheck() { d.w.recheck(d.path) }

// Open opens the file if it is still the one that was found finished.
func (d *dump) Open() (*upload.Opened, error) {
	f, err := d.w.root.Open(d.path)
	var refused *Refusal
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, upload.ErrGone
	case errors.As(err, &refused):
		return nil, upload.ErrChanged // the watcher tells about it
	case err != nil:
		return nil, err
	}
	opened, err := d.open(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return opened, nil
}

func (d *dump) open(f *File) (*upload.Opened, error) {
	fields, ok := d.w.rules.Template.Match(path.Base(d.path))
	if s := stateOf(&f.stat); !ok || s != d.state {
		return nil, upload.ErrChanged
	}
	claim, promised, err := d.w.rules.inspect(f, fields)
	var v *verdict
	if errors.As(err, &v) {
		return nil, upload.ErrChanged // it was a dump when it was offered
	}
	if err != nil {
		return nil, err
	}
	rec := d.w.rules.record(d.path, fields, claim, d.state)
	rec.Status.PromisedSize = promised
	return &upload.Opened{
		Record: rec,
		ID:     d.w.rules.id(d.path, rec.Spec.Process.Time.Time, d.state),
		Codec:  fields.Codec,
		Size:   f.stat.Size,
		File:   f,
	}, nil
}
