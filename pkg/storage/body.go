// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/klauspost/compress/zstd"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/seekable"
)

const (
	// bodyCacheSize bounds what is kept of bodies, such as ETags, and tableCacheSize what is of seek tables, in bytes. Apart, as every range of an archive asks for all
	// bodies in it and reads one: there may be 10,000. A core of 50 GiB has a table of 1.2 MB.
	bodyCacheSize  = 12 << 20
	tableCacheSize = 16 << 20
	// bodyOverhead is what an entry takes beside a table, and tableEntry what a frame takes in that.
	bodyOverhead = 1 << 10
	tableEntry   = 24
	// maxFrame bounds a frame, in bytes, before and after compression, because frames are in memory as a whole. Ours have half of it; a file that comes
	// compressed has those that its maker wanted.
	maxFrame = 2 * seekable.FrameSize
	// maxTable bounds a seek table, in bytes as it is stored: that of a core of 512 GiB. Of those that are longer than shortTable, longTables are read at a
	// time, by all together. Whoever makes a compressed file makes its table, which takes up to three times as much memory as in the file.
	maxTable   = 6<<20 + 1<<10
	shortTable = 64 << 10
	longTables = 2
	// rangeWorkers is how many frames are decompressed at a time for a range. One more is in memory, each twice.
	rangeWorkers = 2
)

// ErrNotSeekable is the kind of error of OpenCoreRange where only the whole core can be read: its body is gzip, or zstd from elsewhere that has no
// seek table, or one of more than 6 MiB, or frames of more than 2 MiB.
var ErrNotSeekable = errors.New("only the whole core can be read")

// BodyInfo is what is known of a body that is there.
type BodyInfo struct {
	// ID tells the stored bytes from any others, also from another compression of the same core.
	ID string
	// Seekable tells whether OpenCoreRange can open any range of the core.
	Seekable bool
	// Sized tells that the stored bytes themselves say how long the core is, and the same as the record. Otherwise only who reads all of it can know.
	Sized bool
}

// bodyKey is a body by what a record says of it. Core is the size of the core.
type bodyKey struct {
	key, checksum string
	size, core    int64
}

// body is what the store said of a body that fits its record. It is immutable.
type body struct {
	etag     string
	id       string // see BodyInfo
	asked    bool   // for the table
	seekable bool   // there is one that can be used
	says     *int64 // how long the core is by a body without a table, negative where it does not say; nil before it was asked
}

// tableKey is a table by the bytes that it is of.
type tableKey struct {
	body bodyKey
	id   string
}

func keyOf(rec *v1alpha1.CoreDump) (bodyKey, error) {
	k, err := ParseName(rec.Namespace, rec.Name)
	return bodyKey{k.Body(Codec(rec.Status.Codec)), rec.Status.Checksum, rec.Status.StoredSize, rec.Status.Size}, err
}

// body asks the store for the body, or remembers. Where size or checksum are not those of the record it is ErrCorrupt.
func (d *Dumps) body(ctx context.Context, k bodyKey) (body, error) {
	if b, ok := d.bodies.get(k); ok {
		return b, nil
	}
	obj, err := d.bucket.Stat(ctx, k.key)
	switch {
	case err != nil:
		return body{}, err
	case obj.Size != k.size:
		return body{}, corrupt(k.key, "it has %d bytes, its record says %d", obj.Size, k.size)
	case differ(obj.Checksum, k.checksum):
		return body{}, corrupt(k.key, "it has the checksum %.80s, its record says %.80s", obj.Checksum, k.checksum)
	}
	b := body{etag: obj.ETag, id: k.id(obj)}
	d.bodies.add(k, b, bodyOverhead)
	return b, nil
}

// id tells the bytes of the object from any others. The checksum of the record does only where the store has the same one of what is there now: a record
// stays as it is when its body is replaced.
func (k bodyKey) id(obj Object) string {
	sum, _, _ := strings.Cut(k.checksum, "-")
	if now, _, _ := strings.Cut(obj.Checksum, "-"); sum != "" && now == sum {
		return fmt.Sprintf("%s %d", k.checksum, k.size)
	}
	return fmt.Sprintf("etag:%s %d", obj.ETag, k.size)
}

// differ tells whether checksums of the same algorithm are different. Some stores leave the number of parts out.
func differ(a, b string) bool {
	a, _, _ = strings.Cut(a, "-")
	b, _, _ = strings.Cut(b, "-")
	algorithm, _, ok := strings.Cut(a, ":")
	return ok && strings.HasPrefix(b, algorithm+":") && a != b
}

// CheckBody asks the store whether the body of the dump is what its record says, as far as that can be told without reading it: whether it is there,
// how long it is, the store's own checksum, and what the seek table says of the size of the core. The error is of kind ErrCorrupt where it is
// not. What it learns is remembered as long as there is room.
func (d *Dumps) CheckBody(ctx context.Context, rec *v1alpha1.CoreDump) (BodyInfo, error) {
	k, err := keyOf(rec)
	if err != nil {
		return BodyInfo{}, err
	}
	b, err := d.body(ctx, k)
	if err == nil && !b.asked && Codec(rec.Status.Codec) == CodecZstd {
		b, _, err = d.table(ctx, rec)
	}
	if err != nil {
		return BodyInfo{}, err
	}
	if Codec(rec.Status.Codec) == CodecNone && rec.Status.Size != k.size {
		return BodyInfo{}, corrupt(k.key, "it is not compressed and has %d bytes, its record says that the core has %d", k.size, rec.Status.Size)
	}
	info := BodyInfo{ID: b.id, Seekable: true, Sized: true}
	if !b.seekable && Codec(rec.Status.Codec) != CodecNone {
		info.Seekable = false
		info.Sized, err = d.sized(ctx, rec, k, b)
	}
	return info, err
}

// sized tells whether a body without a table says that the core is as long as the record says. A file of several frames or members does not.
func (d *Dumps) sized(ctx context.Context, rec *v1alpha1.CoreDump, k bodyKey, b body) (bool, error) {
	if b.says != nil {
		return *b.says == k.core, nil
	}
	offset, length := int64(0), min(zstd.HeaderMaxSize, k.size)
	if Codec(rec.Status.Codec) == CodecGzip {
		offset, length = max(k.size-4, 0), min(4, k.size) // ISIZE of the last member
	}
	r, err := d.OpenBody(ctx, rec, offset, length)
	if err != nil {
		return false, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return false, named("read", k.key, err)
	}
	says := int64(-1)
	var frame zstd.Header
	switch {
	case Codec(rec.Status.Codec) == CodecGzip && len(data) == 4:
		says = k.core&^math.MaxUint32 | int64(binary.LittleEndian.Uint32(data)) // modulo 4 GiB
	case Codec(rec.Status.Codec) == CodecZstd && frame.Decode(data) == nil && frame.HasFCS:
		says = int64(frame.FrameContentSize)
	}
	b.says = &says
	d.bodies.add(k, b, bodyOverhead)
	return says == k.core, nil
}

// table gives the body, which must be zstd, and its seek table, nil where there is none that can be used.
func (d *Dumps) table(ctx context.Context, rec *v1alpha1.CoreDump) (body, *seekable.Table, error) {
	k, err := keyOf(rec)
	if err != nil {
		return body{}, nil, err
	}
	b, err := d.body(ctx, k)
	if err != nil || b.asked && !b.seekable {
		return b, nil, err
	}
	t, ok := d.tables.get(tableKey{k, b.id})
	if !ok {
		t, err = d.readTable(ctx, rec)
	}
	switch {
	case errors.Is(err, seekable.ErrNoTable):
		t = nil
	case errors.Is(err, seekable.ErrCorrupt):
		return b, nil, &Error{Op: "read", Key: k.key, Kind: ErrCorrupt, Err: err}
	case err != nil:
		return b, nil, err
	case t.Size() != rec.Status.Size:
		return b, nil, corrupt(k.key, "its seek table says that the core has %d bytes, its record says %d", t.Size(), rec.Status.Size)
	case !smallFrames(t):
		core := t.Size()
		b.says, t = &core, nil
	}
	b.asked, b.seekable = true, t != nil
	d.bodies.add(k, b, bodyOverhead)
	if t != nil {
		d.tables.add(tableKey{k, b.id}, t, bodyOverhead+int64(t.Frames()+1)*tableEntry)
	}
	return b, t, nil
}

func smallFrames(t *seekable.Table) bool {
	for i := range t.Frames() {
		if f := t.Frame(i); f.Size > maxFrame || f.StoredSize > maxFrame {
			return false
		}
	}
	return true
}

func (d *Dumps) opener(rec *v1alpha1.CoreDump) seekable.Opener {
	return func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		return d.OpenBody(ctx, rec, offset, length)
	}
}

// readTable reads the table within the bounds of memory. One beyond them is seekable.ErrNoTable.
func (d *Dumps) readTable(ctx context.Context, rec *v1alpha1.CoreDump) (*seekable.Table, error) {
	done := func() {}
	defer func() { done() }()
	return seekable.ReadTable(ctx, func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		switch {
		case length > maxTable:
			return nil, seekable.ErrNoTable
		case length > shortTable:
			select {
			case d.long <- struct{}{}:
				done = func() { <-d.long }
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return d.OpenBody(ctx, rec, offset, length)
	}, rec.Status.StoredSize)
}

// OpenBody opens length stored bytes of the dump from offset on, all the rest where length is negative. A range that ends beyond the
// stored size of the record is cut there. A connection that breaks off, or an answer that ends too early, is made again where it ended, a few
// times, as long as the object is the same. It is ErrChanged where the object is not any more the one whose ID CheckBody gave. An object of another size than the
// record's is ErrCorrupt; so is, in place of its last
// bytes, one that is read from its beginning to its end and has another checksum, where that is one of all bytes. The caller closes the reader, which
// ends when ctx does.
func (d *Dumps) OpenBody(ctx context.Context, rec *v1alpha1.CoreDump, offset, length int64) (io.ReadCloser, error) {
	k, err := keyOf(rec)
	if err != nil {
		return nil, err
	}
	rest := k.size - offset
	if offset < 0 || rest < 0 {
		return nil, &Error{Op: "open", Key: k.key, Err: fmt.Errorf("%w offset %d: the stored size is %d", ErrInvalid, offset, k.size)}
	}
	if length < 0 || length > rest {
		length = rest
	}
	b, err := d.body(ctx, k)
	if err != nil {
		return nil, err
	}
	r, err := d.open(ctx, k, b, offset, length)
	if errors.Is(err, ErrChanged) { // what was remembered is of an object that was written again
		d.bodies.remove(k)
		now, statErr := d.body(ctx, k)
		switch {
		case statErr != nil:
			return nil, statErr
		case now.id == b.id: // with the same bytes
			r, err = d.open(ctx, k, now, offset, length)
		}
	}
	if err != nil {
		return nil, err
	}
	if offset > 0 || length < k.size {
		return r, nil
	}
	return summed(r, k.key, k.checksum, k.size), nil
}

func (d *Dumps) open(ctx context.Context, k bodyKey, b body, offset, length int64) (io.ReadCloser, error) {
	r := &resuming{ctx: ctx, bucket: d.bucket, key: k.key, etag: b.etag, next: offset, end: offset + length}
	if length == 0 {
		return r, nil
	}
	return r, r.connect()
}

// OpenCoreRange opens length bytes of the core from offset on, all the rest where length is negative, decompressed. A range that ends beyond the
// size of the record is cut there. It reads no more of the body than the frames that have them, and verifies each of those by its
// checksums, but not the SHA-256 of the core. The error is of kind ErrNotSeekable where only OpenCore is possible. The caller closes the
// reader, which ends when ctx does.
func (d *Dumps) OpenCoreRange(ctx context.Context, rec *v1alpha1.CoreDump, offset, length int64) (io.ReadCloser, error) {
	k, err := keyOf(rec)
	if err != nil {
		return nil, err
	}
	rest := rec.Status.Size - offset
	if offset < 0 || rest < 0 {
		return nil, &Error{Op: "open", Key: k.key, Err: fmt.Errorf("%w offset %d: the core has %d bytes", ErrInvalid, offset, rec.Status.Size)}
	}
	if length < 0 || length > rest {
		length = rest
	}
	if info, err := d.CheckBody(ctx, rec); err != nil {
		return nil, err
	} else if !info.Seekable {
		return nil, &Error{Op: "open", Key: k.key, Kind: ErrNotSeekable}
	}
	if Codec(rec.Status.Codec) == CodecNone {
		return d.OpenBody(ctx, rec, offset, length)
	}
	_, t, err := d.table(ctx, rec)
	if err != nil {
		return nil, err
	}
	r, err := seekable.Open(ctx, t, d.opener(rec), offset, length, rangeWorkers)
	if err != nil {
		return nil, named("open", k.key, err)
	}
	return &frames{r, k.key}, nil
}

// frames gives errors of a seekable stream their key and kind.
type frames struct {
	io.ReadCloser
	key string
}

func (f *frames) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	switch {
	case err == nil, err == io.EOF:
	case errors.Is(err, seekable.ErrCorrupt):
		err = &Error{Op: "read", Key: f.key, Kind: ErrCorrupt, Err: err}
	default:
		err = named("read", f.key, err)
	}
	return n, err
}
