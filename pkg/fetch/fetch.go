// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sync/errgroup"
)

const (
	coreSuffix       = ".core"
	compressedSuffix = ".core.zst"
	partSuffix       = ".part"
	stateSuffix      = ".state"
)

// errDone ends the workers when the core is complete.
var errDone = errors.New("done")

// download is one call of File.
type download struct {
	object *Object
	dump   Dump
	dir    *os.Root
	o      Options

	state *os.File
	part  *os.File // the object
	out   *os.File // the core, where that is another file

	ledger *ledger // once it is known what is missing
}

// File fetches a core into dir and returns the name of its file, <name>.core or <name>.core.zst. Where that is there already and is the core, nothing is fetched.
//
// Until then there are <name>.state, <name>.core.part and <name>.core.zst.part, for their owner alone. Errors of kind ErrIncomplete and ErrNoRoom, and the
// end of ctx, leave them, and another call goes on with them; where ErrWrong or ErrChanged is returned, or nothing has been fetched, they are removed.
// A *StatusError comes from the server.
func File(ctx context.Context, object *Object, dump Dump, dir *os.Root, o Options) (string, error) {
	d := &download{object: object, dump: dump, dir: dir, o: o.withDefaults()}
	name, err := d.run(ctx)
	if err != nil {
		err = fmt.Errorf("fetch %s: %w", dump.ID, err)
	}
	return name, err
}

// Kept tells whether there is something in dir that a call of File with the name goes on with.
func Kept(dir *os.Root, name string) bool {
	info, err := dir.Lstat(name + stateSuffix)
	return err == nil && info.Size() > 0
}

// final is the name of the finished file.
func (d *download) final() string {
	if d.o.KeepCompressed && d.dump.Compressed {
		return d.o.Name + compressedSuffix
	}
	return d.o.Name + coreSuffix
}

// outName is the name of the file that the core goes to.
func (d *download) outName() string { return d.o.Name + coreSuffix + partSuffix }

// partName is the name of the file that the object goes to.
func (d *download) partName() string {
	if d.dump.Compressed {
		return d.o.Name + compressedSuffix + partSuffix
	}
	return d.outName()
}

func (d *download) run(ctx context.Context) (_ string, err error) {
	if err := d.dump.validate(); err != nil {
		return "", err
	}
	if d.state, err = openLocked(d.dir, d.o.Name+stateSuffix); err != nil {
		return "", err
	}
	defer func() {
		if err == nil || errors.Is(err, ErrWrong) || errors.Is(err, ErrChanged) || !d.worthKeeping() {
			d.remove()
		}
		for _, f := range []*os.File{d.part, d.out, d.state} { // the lock last
			if f != nil {
				_ = f.Close()
			}
		}
	}()
	there, err := d.there(ctx)
	if there {
		d.tidy()
	}
	if err != nil || there {
		return d.final(), err
	}
	if err := d.open(); err != nil {
		return "", err
	}
	if err := d.fetch(ctx); err != nil {
		return "", local(err)
	}
	done, name := d.part, d.partName()
	if d.out != nil {
		done, name = d.out, d.outName()
	}
	if err := done.Sync(); err != nil {
		return "", local(fmt.Errorf("sync: %w", err))
	}
	return d.final(), publish(d.dir, name, d.final())
}

// openLocked opens a state file that no other process has. Whoever had it last may have removed it.
func openLocked(dir *os.Root, name string) (*os.File, error) {
	for {
		f, err := openPrivate(dir, name)
		if err != nil {
			return nil, err
		}
		if err := lock(f); err != nil {
			_ = f.Close()
			return nil, err
		}
		mine, err := f.Stat()
		now, err2 := dir.Lstat(name)
		if err == nil && err2 == nil && os.SameFile(mine, now) {
			return f, nil
		}
		_ = f.Close()
	}
}

// there tells whether the finished file is there. Another file of that name is an error.
func (d *download) there(ctx context.Context) (bool, error) {
	info, err := d.dir.Lstat(d.final())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil && info.Mode().IsRegular() {
		var f *os.File
		if f, err = d.dir.Open(d.final()); err == nil {
			defer f.Close()
			c := newCore(limit(io.Discard, d.dump.Size), d.o.Meter)
			err = c.decompress(&cancellable{ctx, f}, d.final() != d.o.Name+coreSuffix, d.o.Workers)
			if err == nil {
				err = c.check(d.dump)
			}
			if err == nil || ctx.Err() != nil {
				return err == nil, err
			}
		}
	}
	return false, fmt.Errorf("%w: %s", ErrExists, d.final())
}

type cancellable struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancellable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// open opens the files that are in the making.
func (d *download) open() (err error) {
	if d.part, err = openPrivate(d.dir, d.partName()); err != nil {
		return err
	}
	if d.dump.Compressed && !d.o.KeepCompressed {
		d.out, err = openPrivate(d.dir, d.outName())
	}
	return err
}

// worthKeeping tells whether the next call could go on with what is there.
func (d *download) worthKeeping() bool {
	if d.ledger != nil {
		return d.ledger.left() < d.ledger.size
	}
	info, err := d.state.Stat()
	return err == nil && info.Size() > 0 // an earlier call has left it, and this one came to nothing
}

// remove removes what this call has opened, and what one that kept another form of the core left.
func (d *download) remove() {
	for _, name := range []string{d.partName(), d.outName()} {
		if info, err := d.dir.Lstat(name); err == nil && info.Mode().IsRegular() && private(info) {
			_ = d.dir.Remove(name)
		}
	}
	_ = d.dir.Remove(d.o.Name + stateSuffix)
}

// tidy removes what a call that was killed left beside the finished file: its old name, or the object.
func (d *download) tidy() {
	final, err := d.dir.Lstat(d.final())
	for _, name := range []string{d.partName(), d.outName()} {
		if info, err2 := d.dir.Lstat(name); err == nil && err2 == nil && info.Mode().IsRegular() && (private(info) || os.SameFile(info, final)) {
			_ = d.dir.Remove(name)
		}
	}
}

// fetch fills the files.
func (d *download) fetch(ctx context.Context) error {
	p := &pieces{object: d.object, file: d.part, holes: !d.dump.Compressed, giveUp: d.o.GiveUp, delay: d.o.Delay, meter: d.o.Meter}
	if d.dump.ObjectSize == 0 {
		return newCore(nil, d.o.Meter).check(d.dump)
	}
	if err := p.probe(ctx, d.dump.ObjectSize); err != nil {
		return err
	}
	if d.object.etag == "" {
		return d.whole(ctx, p)
	}
	if err := d.begin(p); err != nil {
		return err
	}
	u := &unpacker{pieces: p, dump: d.dump, out: d.out, workers: d.o.Workers, meter: d.o.Meter}
	t, err := u.table(ctx)
	if err == nil {
		err = room(d.part, u.need(t))
	}
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for range d.o.Workers {
		g.Go(func() error { return p.run(ctx) })
	}
	g.Go(func() error {
		if err := u.run(ctx, t); err != nil {
			return err
		}
		return errDone
	})
	if err := g.Wait(); !errors.Is(err, errDone) {
		return err
	}
	return nil
}

// begin finds out what an earlier call has left of this object.
func (d *download) begin(p *pieces) error {
	h := header{Version: stateVersion, Object: d.dump.ID, ETag: d.object.etag, Size: d.dump.ObjectSize, SHA256: d.dump.SHA256}
	done, note, err := openState(d.state, h)
	if err != nil {
		return err
	}
	if len(done) == 0 {
		if err := d.empty(); err != nil {
			return err
		}
	}
	// Bytes that are noted and not in the file would read as an early end of it. As zeros they are noticed and fetched again.
	if err := d.part.Truncate(d.dump.ObjectSize); err != nil {
		return err
	}
	d.ledger = newLedger(d.dump.ObjectSize, d.o.Workers, done, note)
	p.ledger = d.ledger
	d.o.Meter.start(d.dump.ObjectSize, done.sum())
	return nil
}

func (d *download) empty() error {
	for _, f := range []*os.File{d.part, d.out} {
		if f != nil {
			if err := f.Truncate(0); err != nil {
				return err
			}
		}
	}
	return nil
}
