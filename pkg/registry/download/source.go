// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package download

import (
	"context"
	"fmt"
	"io"
	"time"

	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/tarball"
)

// source reads an archive and gives up on a store that gives nothing for too long.
type source struct {
	archive  io.ReadCloser
	cancel   context.CancelCauseFunc
	ctx      context.Context
	length   int64
	watchdog *watchdog
}

// newSource reads length bytes of the archive from offset on, all of it where length is negative.
func newSource(ctx context.Context, a *tarball.Archive, offset, length int64, stall time.Duration) (*source, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	if length < 0 {
		length = a.Size()
	}
	s := &source{ctx: ctx, cancel: cancel, length: length}
	var err error
	if s.archive, err = a.OpenRange(ctx, offset, length); err != nil {
		cancel(nil)
		return nil, err
	}
	s.watchdog = watch(stall, func() {
		cancel(fmt.Errorf("%w: it gave nothing for %s", storage.ErrUnavailable, stall))
	})
	return s, nil
}

func (s *source) Read(p []byte) (int, error) {
	s.watchdog.begin(time.Now())
	n, err := s.archive.Read(p)
	s.watchdog.end()
	if err != nil && err != io.EOF {
		if cause := context.Cause(s.ctx); cause != nil {
			err = cause // what the store says of a cancelled request does not matter
		}
	}
	return n, err
}

func (s *source) Close() error {
	s.watchdog.stop()
	s.cancel(nil)
	return s.archive.Close()
}
