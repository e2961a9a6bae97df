// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cespare/xxhash/v2"

	"example.io/coredump/pkg/seekable"
)

// unpacker makes the core of an object while it arrives.
type unpacker struct {
	pieces  *pieces
	dump    Dump
	out     *os.File // that the core goes to; nil where it is only to be checked
	workers int
	meter   *Meter
}

// table fetches the seek table. It is nil where there is none, or none to be used.
func (u *unpacker) table(ctx context.Context) (*seekable.Table, error) {
	if !u.dump.Compressed {
		return nil, nil // whatever the core ends with
	}
	var last span
	open := func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		last = span{offset, offset + length}
		if err := u.pieces.ensure(ctx, last); err != nil {
			return nil, err
		}
		return io.NopCloser(io.NewSectionReader(u.pieces.file, offset, length)), nil
	}
	t, err := seekable.ReadTable(ctx, open, u.dump.ObjectSize)
	if errors.Is(err, seekable.ErrCorrupt) || errors.Is(err, seekable.ErrNoTable) { // what was kept may be bad, what the server has may be good
		if err := u.pieces.ledger.forget(last); err != nil {
			return nil, local(err)
		}
		t, err = seekable.ReadTable(ctx, open, u.dump.ObjectSize)
	}
	return usable(t, err, u.dump)
}

// usable takes what ReadTable gave of a dump. The table is nil where there is none, or none to be used: then the object is one stream.
func usable(t *seekable.Table, err error, d Dump) (*seekable.Table, error) {
	switch {
	case errors.Is(err, seekable.ErrNoTable):
		return nil, nil
	case errors.Is(err, seekable.ErrCorrupt):
		return nil, fmt.Errorf("%w: %w", ErrWrong, err)
	case err != nil:
		return nil, err
	case t.Size() != d.Size:
		return nil, fmt.Errorf("%w: the seek table has a core of %d bytes, the record says %d", ErrWrong, t.Size(), d.Size)
	case !smallFrames(t):
		return nil, nil
	}
	return t, nil
}

// maxFrame bounds a frame, in bytes, before and after compression: more of them than there are workers are in memory.
const maxFrame = 8 << 20

// smallFrames tells whether the frames are to be decompressed side by side. With larger ones, whoever made them, the object is read as one stream.
func smallFrames(t *seekable.Table) bool {
	for i := range t.Frames() {
		if f := t.Frame(i); f.Size > maxFrame || f.StoredSize > maxFrame {
			return false
		}
	}
	return true
}

// follow reads the object from offset on, length bytes, as they arrive.
func (u *unpacker) follow(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	return io.NopCloser(&follower{ctx, u.pieces, offset, offset + length}), nil
}

type follower struct {
	ctx      context.Context
	pieces   *pieces
	from, to int64
}

func (f *follower) Read(p []byte) (int, error) {
	if f.from >= f.to {
		return 0, io.EOF
	}
	to, err := f.pieces.ledger.wait(f.ctx, f.from)
	if err != nil {
		return 0, err
	}
	n, err := f.pieces.file.ReadAt(p[:min(int64(len(p)), min(to, f.to)-f.from)], f.from)
	f.from += int64(n)
	if err == io.EOF && n > 0 {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("read what was fetched: %w", err)
	}
	return n, err
}

// run takes the core out of the object, into out, and checks it. A frame that is bad is fetched once more: what was kept from an earlier call
// may have suffered with the machine, and what came over a network may have on its way.
func (u *unpacker) run(ctx context.Context, t *seekable.Table) error {
	if t == nil {
		return u.stream(ctx)
	}
	c, err := u.resume(ctx, t)
	if err != nil {
		return err
	}
	again := map[int]bool{}
	for c.n < t.Size() {
		r, err := seekable.Open(ctx, t, u.follow, c.n, t.Size()-c.n, u.workers)
		if err != nil {
			return err
		}
		err = c.copy(r)
		_ = r.Close()
		if err == nil {
			break
		}
		if !errors.Is(err, seekable.ErrCorrupt) {
			return err
		}
		bad, _ := t.Range(c.n, 1)
		if again[bad] {
			return fmt.Errorf("%w: twice it came like this: %w", ErrWrong, err)
		}
		again[bad] = true
		f := t.Frame(bad)
		if err := u.pieces.ledger.forget(span{f.Offset, f.Offset + f.StoredSize}); err != nil {
			return local(err)
		}
	}
	return c.finish(u.dump)
}

// stream takes the core out of an object without a seek table, from its start.
func (u *unpacker) stream(ctx context.Context) error {
	c, err := u.core(0)
	if err != nil {
		return err
	}
	if err := c.decompress(&follower{ctx, u.pieces, 0, u.dump.ObjectSize}, u.dump.Compressed, u.workers); err != nil {
		return err
	}
	return c.finish(u.dump)
}

// core begins behind the first n bytes of out.
func (u *unpacker) core(n int64) (*core, error) {
	if u.out == nil {
		return newCore(limit(io.Discard, u.dump.Size), u.meter), nil
	}
	if err := u.out.Truncate(n); err != nil {
		return nil, err
	}
	return newCore(&sparse{f: u.out, offset: n, limit: u.dump.Size}, u.meter), nil
}

// resume finds out how much of the core an earlier call has left, frame by frame, by their checksums.
func (u *unpacker) resume(ctx context.Context, t *seekable.Table) (*core, error) {
	if u.out == nil || !t.HasChecksums() {
		return u.core(0)
	}
	info, err := u.out.Stat()
	if err != nil {
		return nil, err
	}
	c := newCore(nil, u.meter)
	buf := make([]byte, 0)
	for i := range t.Frames() {
		f := t.Frame(i)
		if f.ContentOffset+f.Size > info.Size() {
			break
		}
		if ctx.Err() != nil { // it may be many GiB
			return nil, context.Cause(ctx)
		}
		if int64(cap(buf)) < f.Size {
			buf = make([]byte, f.Size)
		}
		buf = buf[:f.Size]
		if _, err := u.out.ReadAt(buf, f.ContentOffset); err != nil {
			return nil, err
		}
		if uint32(xxhash.Sum64(buf)) != f.Checksum {
			break
		}
		c.hash.Write(buf)
		c.n += f.Size
		u.meter.wrote(c.n)
	}
	behind, err := u.core(c.n)
	if err == nil {
		c.out = behind.out
	}
	return c, err
}

// need estimates how many bytes of disk are missing for the rest of the object and for the core. Frames that compress a thousandfold are zeros, which
// become holes.
func (u *unpacker) need(t *seekable.Table) int64 {
	n := u.pieces.ledger.left()
	if u.out == nil {
		return n
	}
	n -= used(u.out)
	if t == nil {
		return n + u.dump.Size
	}
	for i := range t.Frames() {
		if f := t.Frame(i); f.StoredSize > f.Size/1000 {
			n += f.Size
		}
	}
	return n
}
