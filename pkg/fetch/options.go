// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"fmt"
	"time"
)

// Dump is what the record says of a core dump.
type Dump struct {
	// ID tells dumps apart, for example <namespace>/<name>.
	ID string
	// Size and SHA256 (in hex) are those of the core, uncompressed.
	Size   int64
	SHA256 string
	// ObjectSize is the length of what Object.Ranges gives.
	ObjectSize int64
	// Compressed says that the object is zstd. Otherwise it is the core.
	Compressed bool
}

func (d Dump) validate() error {
	if d.Size < 0 || d.ObjectSize < 0 || !d.Compressed && d.Size != d.ObjectSize {
		return fmt.Errorf("%w: it says that a core of %d bytes is stored in %d", ErrWrong, d.Size, d.ObjectSize)
	}
	return nil
}

// Options of a download. Zero values are good defaults, but for Name.
type Options struct {
	// Name is what the files are called, without a suffix. It must be a file name; File does not look at it.
	Name string
	// KeepCompressed keeps the object as it is, in <name>.core.zst. It is checked all the same.
	KeepCompressed bool
	// Workers is how many ranges are fetched at a time, and how many goroutines decompress; 4.
	Workers int
	// GiveUp is for how long requests may fail, with nothing arriving, before a download ends as ErrIncomplete; 5 minutes.
	GiveUp time.Duration
	// Delay is how long to wait before asking again for the first time; half a second. It doubles six times.
	Delay time.Duration
	// Meter is told how far the download is; may be nil.
	Meter *Meter
}

func (o Options) withDefaults() Options {
	if o.Workers <= 0 {
		o.Workers = 4
	}
	if o.GiveUp <= 0 {
		o.GiveUp = 5 * time.Minute
	}
	if o.Delay <= 0 {
		o.Delay = 500 * time.Millisecond
	}
	return o
}
