// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package upload takes finished dumps from the node to the store: it completes their records, compresses them, commits
// them, and only then removes them from the node. What fails is tried again for as long as it takes.
package upload

import (
	"context"
	"errors"
	"io"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/bundle"
	"example.io/coredump/pkg/storage"
)

// Source finds finished dumps on this node; there is one for each capture mode. Mode file is dumpdir.Watcher.
type Source interface {
	// Run hands finished dumps to offer until ctx ends. A dump that offer does not take (false) is offered again later. A dump
	// that it has already and is offered again counts as taken.
	Run(ctx context.Context, offer func(Dump) bool) error
}

// Dump is a finished dump that waits on this node. It is a reference and holds nothing open.
type Dump interface {
	// Path tells the dumps of this node apart, and people where a dump is.
	Path() string
	// Open opens the dump for one attempt at uploading it. It fails with ErrGone or ErrChanged where there is nothing
	// to be uploaded any more; other errors mean that another attempt may do better.
	Open() (*Opened, error)
	// Recheck makes the source look at the dump again, which has changed since it was offered.
	Recheck()
}

// Opened is a dump that has been opened for one attempt.
type Opened struct {
	// Record is the record as far as the source knows it: names, process, capture, and the size that the core promises.
	Record *v1alpha1.CoreDump
	// ID is the same whenever the same dump is opened, also after a restart; see storage.NewID.
	ID string
	// Codec is how File is compressed.
	Codec storage.Codec
	// Size is the length of File in bytes.
	Size int64
	File File
	// Identify completes Record, with the names among it, where the source knows better than the pool's Identifier how; nil otherwise.
	// The same contract holds.
	Identify func(ctx context.Context, d *v1alpha1.CoreDump) error
	// Context gives what is known of the crash beside the core; nil where there is none of that. It is called once, after the record has been
	// completed, and ends when ctx does, which is soon. Where it fails, or gives what is no bundle (bundle.Check) or one that is too large
	// (storage.MaxContextSize), the dump is uploaded without it.
	Context func(ctx context.Context) ([]bundle.File, error)
}

// File is an open dump. It is used by one goroutine at a time.
type File interface {
	io.ReadCloser
	// Unchanged fails with ErrChanged where the file is not any more what was opened.
	Unchanged() error
	// Remove removes the file from the node, if it is unchanged and still has its name.
	Remove() error
	// SetAside moves the file where nobody looks at it again and keeps it, with a note that says why.
	SetAside(reason Reason, why string) error
}

var (
	// ErrGone is returned where a dump is not there any more.
	ErrGone = errors.New("the dump is gone")
	// ErrChanged is returned where a dump is not any more what was offered.
	ErrChanged = errors.New("the dump has changed")
)

// Reason is why a file is set aside. It is the value of a metric's label.
type Reason string

// The reasons.
const (
	ReasonNotCore      Reason = "not-a-core"
	ReasonUnidentified Reason = "unidentified"
	ReasonTooLarge     Reason = "too-large"
	ReasonCorrupt      Reason = "corrupt-compression"
)

// Reasons are all of them.
var Reasons = []Reason{ReasonNotCore, ReasonUnidentified, ReasonTooLarge, ReasonCorrupt}
