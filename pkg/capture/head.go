// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"io"

	"example.io/coredump/pkg/corefile"
)

// head reads the beginning of a core as it passes. It is corefile.Parser, see there.
type head interface {
	io.Writer // never fails
	PromisedSize() int64
	HeadDone() bool
	HeadEnd() int64
	Err() error
	Site() string
}

func newHead() head { return corefile.NewParser() }
