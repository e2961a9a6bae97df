// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// attempts is how often an object without ranges is read from its start before it is given up.
const attempts = 3

// whole reads an object without ranges from front to back, and once more where it breaks off. It cannot be resumed.
func (d *download) whole(ctx context.Context, p *pieces) (err error) {
	defer func() {
		if err != nil {
			_ = d.state.Truncate(0)
		}
	}()
	if err := room(d.part, d.dump.Size); err != nil {
		return err
	}
	for i := 1; ; i++ {
		err := d.wholeOnce(ctx, p)
		if err == nil || i >= attempts && !errors.As(err, new(*StatusError)) {
			return d.explain(err)
		}
		if err := p.wait(ctx, err); err != nil {
			return err
		}
	}
}

func (d *download) explain(err error) error {
	if err == nil || errors.Is(err, ErrWrong) || errors.Is(err, ErrNoRoom) {
		return err
	}
	return fmt.Errorf("%w: the server has no ranges of it, and broke off %d times: %w", ErrIncomplete, attempts, err)
}

func (d *download) wholeOnce(ctx context.Context, p *pieces) error {
	if err := d.empty(); err != nil {
		return err
	}
	r, err := d.object.whole(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	d.o.Meter.start(d.dump.ObjectSize, 0)
	counted := io.Reader(&counted{r, p})
	out := d.out
	switch {
	case !d.dump.Compressed:
		out = d.part
	case d.out == nil:
		// The length of a stream that the server compresses now is not known. More than the core's would be no compression.
		counted = io.TeeReader(counted, limit(localWriter{d.part}, d.dump.Size+d.dump.Size/8+1<<20))
	}
	c := newCore(limit(io.Discard, d.dump.Size), d.o.Meter)
	if out != nil {
		c.out = &sparse{f: out, limit: d.dump.Size}
	}
	if err := c.decompress(counted, d.dump.Compressed, d.o.Workers); err != nil {
		return err
	}
	return c.finish(d.dump)
}

// localWriter marks the errors of a local file as such.
type localWriter struct{ *os.File }

func (w localWriter) Write(p []byte) (int, error) {
	n, err := w.File.Write(p)
	if err != nil {
		err = &localError{err}
	}
	return n, err
}

// counted tells of what arrives.
type counted struct {
	r      io.Reader
	pieces *pieces
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if n > 0 {
		c.pieces.meter.add(int64(n))
		c.pieces.arrived()
	}
	return n, err
}
