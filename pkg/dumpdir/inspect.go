// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package dumpdir

import (
	"errors"
	"fmt"
	"io"
	"time"

	"example.io/coredump/pkg/corefile"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/upload"
)

// Rules say which files are dumps and whose.
type Rules struct {
	// Template of the names.
	Template *Template
	// Defaults for what a path does not say.
	Defaults Claim
	// MaxSize of a file in bytes, as its length says; a sparse file may take less.
	MaxSize int64
	// NodeName goes into the ids of dumps, so that two nodes never give the same.
	NodeName string
	// Version of the handler, for the record.
	Version string
}

// verdict is the error of inspect for a file that is to be set aside once it is finished.
type verdict struct {
	reason upload.Reason
	why    error
}

func (v *verdict) Error() string { return fmt.Sprintf("%s: %v", v.reason, v.why) }

// inspect reads of an open file what the rules need. The error is a *verdict for a file that cannot be uploaded. The size that
// the core promises is 0 where it cannot be told.
func (r *Rules) inspect(f *File, fields Fields) (c Claim, promised int64, err error) {
	promised, err = probe(f, fields.Codec)
	if errors.Is(err, corefile.ErrNotCore) || errors.Is(err, storage.ErrCorrupt) {
		return c, 0, &verdict{upload.ReasonNotCore, err}
	}
	if err != nil {
		return c, 0, err
	}
	if f.stat.Size > r.MaxSize {
		return c, promised, &verdict{upload.ReasonTooLarge, fmt.Errorf("%d bytes: at most %d are allowed", f.stat.Size, r.MaxSize)}
	}
	if c, err = claim(f.path, fields, r.Defaults); err != nil {
		return c, promised, &verdict{upload.ReasonUnidentified, err}
	}
	return c, promised, nil
}

// probe reads the headers of the core in the file.
func probe(f *File, codec storage.Codec) (promised int64, err error) {
	plain, err := codec.NewReader(io.NewSectionReader(f, 0, f.stat.Size))
	if err != nil {
		return 0, notCorrupt(err)
	}
	defer plain.Close()
	h, err := corefile.ReadHeader(plain)
	return h.PromisedSize, notCorrupt(err)
}

// notCorrupt gives a compressed file that ends at once the kind of the others that are no core.
func notCorrupt(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it is empty", corefile.ErrNotCore)
	}
	return err
}

// observe looks at an open file as one that may not be finished. err is what inspect says.
func (r *Rules) observe(f *File, fields Fields, now time.Time) (observation, error) {
	_, promised, err := r.inspect(f, fields)
	var v *verdict
	if err != nil && !errors.As(err, &v) {
		return observation{}, err
	}
	return observation{
		state:    stateOf(&f.stat),
		complete: fields.Codec == storage.CodecNone && promised > 0 && f.stat.Size >= promised,
		writer:   f.hasWriter(),
		since:    now,
	}, err
}
