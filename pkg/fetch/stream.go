// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"

	"example.io/coredump/pkg/seekable"
)

// streamPiece is how much is asked for at a time where the bytes go into a stream.
const streamPiece = 64 << 20

// Stream writes a core to w, from its start, and checks it on the way. What is written before an error may be wrong. Requests that break off are
// repeated; nothing is kept for another call. It writes the object as it is if o.KeepCompressed says so.
func Stream(ctx context.Context, object *Object, dump Dump, w io.Writer, o Options) error {
	o = o.withDefaults()
	s := &stream{object: object, dump: dump, o: o, w: w,
		pieces: &pieces{object: object, giveUp: o.GiveUp, delay: o.Delay, meter: o.Meter}}
	if err := s.run(ctx); err != nil {
		return fmt.Errorf("fetch %s: %w", dump.ID, err)
	}
	return nil
}

type stream struct {
	object *Object
	dump   Dump
	o      Options
	w      io.Writer
	pieces *pieces // for its patience
}

func (s *stream) run(ctx context.Context) error {
	if err := s.dump.validate(); err != nil {
		return err
	}
	if s.dump.ObjectSize == 0 {
		return newCore(nil, s.o.Meter).check(s.dump)
	}
	if err := s.pieces.probe(ctx, s.dump.ObjectSize); err != nil {
		return err
	}
	s.o.Meter.start(s.dump.ObjectSize, 0)
	if s.object.etag == "" {
		r, err := s.object.whole(ctx)
		if err != nil {
			return err
		}
		defer r.Close()
		return s.copy(&counted{r, s.pieces})
	}
	if s.dump.Compressed && !s.o.KeepCompressed {
		t, err := seekable.ReadTable(ctx, s.open, s.dump.ObjectSize)
		if t, err = usable(t, err, s.dump); err != nil {
			return err
		}
		if t != nil {
			return s.frames(ctx, t)
		}
	}
	r, err := s.open(ctx, 0, s.dump.ObjectSize)
	if err != nil {
		return err
	}
	defer r.Close()
	return s.copy(r)
}

// copy writes the core in r, or r itself.
func (s *stream) copy(r io.Reader) error {
	out := s.w
	if s.dump.Compressed && s.o.KeepCompressed {
		r, out = io.TeeReader(r, s.w), io.Discard
	}
	c := newCore(limit(out, s.dump.Size), s.o.Meter)
	if err := c.decompress(r, s.dump.Compressed, s.o.Workers); err != nil {
		return err
	}
	return c.check(s.dump)
}

func (s *stream) frames(ctx context.Context, t *seekable.Table) error {
	r, err := seekable.Open(ctx, t, s.open, 0, t.Size(), s.o.Workers)
	if err != nil {
		return err
	}
	defer r.Close()
	c := newCore(limit(s.w, s.dump.Size), s.o.Meter)
	if err := c.copy(r); err != nil {
		if errors.Is(err, seekable.ErrCorrupt) {
			err = fmt.Errorf("%w: %w", ErrWrong, err)
		}
		return err
	}
	return c.check(s.dump)
}

// open is a seekable.Opener: it reads on where a request breaks off.
func (s *stream) open(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	return &patient{ctx: ctx, s: s, at: offset, to: offset + length}, nil
}

type patient struct {
	ctx    context.Context
	s      *stream
	at, to int64
	r      io.ReadCloser // of the current request
	end    int64         // of it
}

func (p *patient) Read(b []byte) (int, error) {
	for p.at < p.to {
		var err error
		if p.r == nil {
			p.end = min(p.at+streamPiece, p.to)
			if p.r, err = p.s.object.open(p.ctx, p.at, p.end-p.at); err != nil {
				p.r = nil
			}
		}
		if err == nil {
			var n int
			n, err = p.r.Read(b[:min(int64(len(b)), p.to-p.at)])
			p.at += int64(n)
			if err != nil {
				_ = p.Close()
			}
			if n > 0 {
				p.s.o.Meter.add(int64(n))
				p.s.pieces.arrived()
				return n, nil
			}
			if err == nil {
				continue
			}
			if err == io.EOF {
				if p.at == p.end {
					continue
				}
				err = fmt.Errorf("the server broke off at byte %d", p.at)
			}
		}
		if err := p.s.pieces.wait(p.ctx, err); err != nil {
			return 0, err
		}
	}
	return 0, io.EOF
}

// Close ends the current request.
func (p *patient) Close() error {
	if p.r != nil {
		_ = p.r.Close()
		p.r = nil
	}
	return nil
}
