// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/seekable"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/file"
	"example.io/coredump/pkg/storage/storagetest"
)

// verifying is a bucket that gives the checksums of what it stores.
func verifying(t *testing.T) *storagetest.Faulty {
	t.Helper()
	b, err := file.Open(t.TempDir(), file.Options{Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	return &storagetest.Faulty{Bucket: b}
}

type opened func(ctx context.Context, rec *v1alpha1.CoreDump, offset, length int64) (io.ReadCloser, error)

func read(t *testing.T, open opened, rec *v1alpha1.CoreDump, offset, length int64) ([]byte, error) {
	t.Helper()
	r, err := open(t.Context(), rec, offset, length)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestAnyRangeOfACoreIsReadFromTheFramesThatHaveIt(t *testing.T) {
	core := storagetest.Bytes(9<<20 + 12345)
	for _, codec := range []storage.Codec{storage.CodecNone, storage.CodecZstd} {
		b := newBucket(t)
		d := storage.NewDumps(b)
		rec := mustCommit(t, d, app, codec, core)
		if info, err := d.CheckBody(t.Context(), rec); err != nil || !info.Seekable || info.ID == "" {
			t.Errorf("codec %q: %+v, %v", codec, info, err)
		}
		size := int64(len(core))
		ranges := [][2]int64{{0, -1}, {0, size}, {0, 1}, {size - 1, 1}, {size, 0}, {size, -1}, {5, 0}, {1<<20 - 1, 2}, {1 << 20, 1 << 20}, {size - 10, 100}}
		for range 20 {
			offset := rand.Int64N(size)
			ranges = append(ranges, [2]int64{offset, rand.Int64N(size - offset + 1)})
		}
		for _, r := range ranges {
			want := core[r[0]:]
			if r[1] >= 0 {
				want = want[:min(r[1], int64(len(want)))]
			}
			if got, err := read(t, d.OpenCoreRange, rec, r[0], r[1]); err != nil || !bytes.Equal(got, want) {
				t.Errorf("codec %q, %v: %d bytes, %v, want %d", codec, r, len(got), err, len(want))
			}
		}
		for _, offset := range []int64{-1, size + 1} {
			if _, err := d.OpenCoreRange(t.Context(), rec, offset, 1); !errors.Is(err, storage.ErrInvalid) {
				t.Errorf("offset %d: %v", offset, err)
			}
		}
		// The table and the ETag are asked for once.
		if stats := b.Count(storagetest.OpStat); stats > 4 { // two of them of the record
			t.Errorf("codec %q: the store was asked %d times", codec, stats)
		}
	}
}

func TestABodyWithoutATableIsNotSeekable(t *testing.T) {
	core := storagetest.Bytes(3 << 20)
	var plain bytes.Buffer
	z, _ := zstd.NewWriter(&plain)
	_, _ = z.Write(core)
	_ = z.Close()
	var large bytes.Buffer
	w, _ := seekable.NewWriter(&large, seekable.Options{FrameSize: 2<<20 + 1})
	_, _ = w.Write(core)
	_ = w.Close()
	for name, test := range map[string]struct {
		codec storage.Codec
		body  []byte
		sized bool
	}{
		"zstd of others, from a pipe": {storage.CodecZstd, plain.Bytes(), false},
		"zstd of others, of a file":   {storage.CodecZstd, z.EncodeAll(core, nil), true},
		"zstd of others, two frames":  {storage.CodecZstd, z.EncodeAll(core[1<<20:], z.EncodeAll(core[:1<<20], nil)), false},
		"zstd with large frames":      {storage.CodecZstd, large.Bytes(), true},
		"gzip":                        {storage.CodecGzip, nil, true},
	} {
		b := newBucket(t)
		d := storage.NewDumps(b)
		rec := mustCommit(t, d, app, test.codec, core)
		if test.body != nil {
			replace(t, b, app.Body(test.codec), test.body)
			rec.Status.StoredSize = int64(len(test.body))
		}
		for range 2 {
			if info, err := d.CheckBody(t.Context(), rec); err != nil || info.Seekable || info.Sized != test.sized {
				t.Errorf("%s: %+v, %v", name, info, err)
			}
			_, err := d.OpenCoreRange(t.Context(), rec, 1, 1)
			storagetest.IsError(t, err, storage.ErrNotSeekable, app.Body(test.codec))
		}
		if got, err := readCore(d, rec); err != nil || !bytes.Equal(got, core) {
			t.Errorf("%s: the whole has %d bytes, %v", name, len(got), err)
		}
	}
}

// TestSeekTablesOfStrangersTakeLittleMemory: a file that comes compressed has the table that its maker wants, and there may be many.
func TestSeekTablesOfStrangersTakeLittleMemory(t *testing.T) {
	e, _ := zstd.NewWriter(nil)
	core := []byte("core")
	first := e.EncodeAll(core, nil)
	for frames, usable := range map[int]bool{200_000: true, seekable.MaxFrames: false} {
		body := binary.LittleEndian.AppendUint32(bytes.Clone(first), 0x184D2A5E)
		body = binary.LittleEndian.AppendUint32(body, uint32(frames*8+9))
		body = binary.LittleEndian.AppendUint32(body, uint32(len(first)))
		body = binary.LittleEndian.AppendUint32(body, uint32(len(core)))
		body = append(body, make([]byte, (frames-1)*8)...) // frames of nothing in nothing
		body = append(binary.LittleEndian.AppendUint32(body, uint32(frames)), 0, 0xb1, 0xea, 0x92, 0x8f)

		b := &tables{Faulty: newBucket(t)}
		d := storage.NewDumps(b)
		var recs []*v1alpha1.CoreDump
		for i := range 12 {
			k := app
			k.Pod = fmt.Sprintf("web-%d", i)
			rec := mustCommit(t, d, k, storage.CodecZstd, core)
			replace(t, b, k.Body(storage.CodecZstd), body)
			rec.Status.StoredSize = int64(len(body))
			recs = append(recs, rec)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var all sync.WaitGroup
		for _, rec := range recs {
			all.Go(func() {
				if info, err := d.CheckBody(t.Context(), rec); err != nil || info.Seekable != usable {
					t.Errorf("%d frames: %+v, %v", frames, info, err)
				}
			})
		}
		all.Wait()
		runtime.ReadMemStats(&after)
		opens := b.Count(storagetest.OpOpen)
		for _, rec := range recs { // whose tables are more than is remembered
			if _, err := d.CheckBody(t.Context(), rec); err != nil {
				t.Error(err)
			}
		}
		if n := b.Count(storagetest.OpOpen) - opens; n > 0 {
			t.Errorf("%d frames: checked again, %d bodies were read again", frames, n)
		}
		if n := (after.TotalAlloc - before.TotalAlloc) / 12; n > 8<<20 {
			t.Errorf("%d frames: %d bytes for each", frames, n)
		}
		if n := b.most.Load(); n > 2 || usable && n == 0 {
			t.Errorf("%d frames: %d tables were read at a time", frames, n)
		}
		if got, err := readCore(d, recs[0]); err != nil || !bytes.Equal(got, core) {
			t.Errorf("%d frames: the core is %q, %v", frames, got, err)
		}
	}
}

// tables is a bucket that counts how many long tables are read at a time.
type tables struct {
	*storagetest.Faulty
	reading, most atomic.Int32
}

func (b *tables) Open(ctx context.Context, key, etag string, offset, length int64) (io.ReadCloser, error) {
	if offset > 0 && length > 64<<10 {
		b.most.Store(max(b.most.Load(), b.reading.Add(1)))
		defer b.reading.Add(-1)
		time.Sleep(20 * time.Millisecond) // so that all who may are there
	}
	return b.Faulty.Open(ctx, key, etag, offset, length)
}

// TestARangeTakesLittleMemory, whoever made the frames.
func TestARangeTakesLittleMemory(t *testing.T) {
	core := storagetest.Bytes(12 << 20)
	for _, frame := range []int{2<<20 - 4<<10, 6 << 20} { // what does not compress becomes a little longer
		var body bytes.Buffer
		z, _ := seekable.NewWriter(&body, seekable.Options{FrameSize: frame})
		_, _ = z.Write(core)
		_ = z.Close()
		b := newBucket(t)
		d := storage.NewDumps(b)
		rec := mustCommit(t, d, app, storage.CodecZstd, core)
		replace(t, b, app.Body(storage.CodecZstd), body.Bytes())
		rec.Status.StoredSize = int64(body.Len())
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range 4 {
			r, err := d.OpenCoreRange(t.Context(), rec, 0, -1)
			if frame > 2<<20 {
				storagetest.IsError(t, err, storage.ErrNotSeekable, app.Body(storage.CodecZstd))
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if _, err := io.ReadFull(r, make([]byte, 3<<20)); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		if n := (int64(after.TotalAlloc) - int64(before.TotalAlloc)) / 4; n > 24<<20 {
			t.Errorf("frames of %d bytes: %d bytes for each", frame, n)
		}
	}
}

func TestWhatIsNotAsItsRecordSaysIsFoundBeforeAByteIsRead(t *testing.T) {
	core := storagetest.Bytes(3 << 20)
	cut := func(b []byte) []byte { return b[:len(b)-1000] }
	for name, test := range map[string]struct {
		codec  storage.Codec
		object func([]byte) []byte
		record func(*v1alpha1.CoreDump)
	}{
		"a body that was cut":               {codec: storage.CodecGzip, object: cut},
		"a body that got longer":            {codec: storage.CodecZstd, object: func(b []byte) []byte { return append(b, 1) }},
		"a record with another stored size": {codec: storage.CodecNone, record: func(r *v1alpha1.CoreDump) { r.Status.StoredSize-- }},
		"a record with another size":        {codec: storage.CodecZstd, record: func(r *v1alpha1.CoreDump) { r.Status.Size++ }},
		"a core that is not compressed":     {codec: storage.CodecNone, record: func(r *v1alpha1.CoreDump) { r.Status.Size++ }},
		"a table that is broken":            {codec: storage.CodecZstd, object: func(b []byte) []byte { b[len(b)-20] ^= 1; b[len(b)-9-12] ^= 1; return b }},
	} {
		b := newBucket(t)
		d := storage.NewDumps(b)
		rec := mustCommit(t, d, app, test.codec, core)
		if test.object != nil {
			replace(t, b, app.Body(test.codec), test.object(readObject(t, b, app.Body(test.codec))))
		}
		if test.record != nil {
			test.record(rec)
		}
		_, err := d.CheckBody(t.Context(), rec)
		if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), app.Body(test.codec)) {
			t.Errorf("%s: %v", name, err)
		}
		if test.codec == storage.CodecZstd {
			if _, err := d.OpenCoreRange(t.Context(), rec, 0, 1); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("%s: a range: %v", name, err)
			}
		}
	}
}

func TestTheStoresOwnChecksumMustBeThatOfTheRecord(t *testing.T) {
	b := &checksums{Bucket: newBucket(t)}
	d := storage.NewDumps(b)
	rec := mustCommit(t, d, app, storage.CodecNone, []byte("core"))
	for _, test := range []struct {
		record, store string
		ok            bool
	}{
		{"crc64nvme:AAA=", "crc64nvme:AAB=", false}, {"crc32c:AAA=-2", "crc32c:AAB=-2", false},
		{"crc32c:AAA=-2", "crc32c:AAA=-2", true}, {"crc32c:AAA=-2", "crc32c:AAA=", true}, // some leave the number of parts out
		{"crc64nvme:AAA=", "", true}, {"", "crc64nvme:AAA=", true}, {"md5:x", "crc32c:y", true},
	} {
		rec.Status.Checksum, b.checksum = test.record, test.store
		_, err := storage.NewDumps(b).CheckBody(t.Context(), rec)
		if test.ok && err != nil || !test.ok && !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("record %q, store %q: %v", test.record, test.store, err)
		}
	}
}

// checksums is a bucket that says of every object that it has the same checksum.
type checksums struct {
	storage.Bucket
	checksum string
}

func (c *checksums) Stat(ctx context.Context, key string) (storage.Object, error) {
	obj, err := c.Bucket.Stat(ctx, key)
	obj.Checksum = c.checksum
	return obj, err
}

func TestABitThatFlippedIsFoundWhenTheWholeIsRead(t *testing.T) {
	core := storagetest.Bytes(3 << 20)
	for _, codec := range []storage.Codec{storage.CodecNone, storage.CodecZstd, storage.CodecGzip} {
		b := verifying(t)
		d := storage.NewDumps(b)
		rec := mustCommit(t, d, app, codec, core)
		if !strings.HasPrefix(rec.Status.Checksum, "crc64nvme:") {
			t.Fatalf("the record has the checksum %q", rec.Status.Checksum)
		}
		if got, err := read(t, d.OpenBody, rec, 0, -1); err != nil || int64(len(got)) != rec.Status.StoredSize {
			t.Errorf("codec %q: %d bytes, %v", codec, len(got), err)
		}
		replace(t, b, app.Body(codec), func(b []byte) []byte { b[1<<20] ^= 8; return b }(readObject(t, b, app.Body(codec))))
		d = storage.NewDumps(b) // a bit flips without changing the ETag: nothing is remembered of another
		_, err := read(t, d.OpenBody, rec, 0, -1)
		storagetest.IsError(t, err, storage.ErrCorrupt, app.Body(codec))
		if codec == storage.CodecZstd {
			_, err := read(t, d.OpenCoreRange, rec, 1<<20-10, 1<<20)
			storagetest.IsError(t, err, storage.ErrCorrupt, app.Body(codec))
		}
	}
}

// TestAReaderGoesOnWhereTheStoreBrokeOff: connections are cut, and answers end too early without saying so.
func TestAReaderGoesOnWhereTheStoreBrokeOff(t *testing.T) {
	core := storagetest.Bytes(3 << 20)
	key := app.Body(storage.CodecZstd)
	for name, broken := range map[string]error{
		"it says so":     &storage.Error{Op: "read", Key: key, Kind: storage.ErrUnavailable, Err: errors.New("connection reset")},
		"it ends early":  io.EOF,
		"it stood still": fmt.Errorf("%w: no byte has moved", storage.ErrUnavailable),
	} {
		t.Run(name, func(t *testing.T) {
			b := verifying(t)
			d := storage.NewDumps(b)
			rec := mustCommit(t, d, app, storage.CodecZstd, core)
			var opens atomic.Int32
			b.Cut = func(k string) (int64, error) {
				if k != key {
					return 0, nil
				}
				opens.Add(1)
				return 700_001, broken
			}
			if got, err := read(t, d.OpenBody, rec, 0, -1); err != nil || int64(len(got)) != rec.Status.StoredSize {
				t.Errorf("the body: %d bytes of %d, %v", len(got), rec.Status.StoredSize, err)
			}
			if n := opens.Load(); n != 5 {
				t.Errorf("it was opened %d times", n)
			}
			if got, err := readCore(d, rec); err != nil || !bytes.Equal(got, core) {
				t.Errorf("the core: %d bytes, %v", len(got), err)
			}
			if got, err := read(t, d.OpenCoreRange, rec, 1234567, 1_000_000); err != nil || !bytes.Equal(got, core[1234567:2234567]) {
				t.Errorf("a range: %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestAReaderGivesUpWhereGoingOnCannotHelp(t *testing.T) {
	core := storagetest.Bytes(300_000)
	key := app.Body(storage.CodecNone)
	away := &storage.Error{Op: "read", Key: key, Kind: storage.ErrUnavailable}
	for name, test := range map[string]struct {
		then func(b *storagetest.Faulty, cancel func()) // after the first bytes
		cut  error
		want error
		most int // attempts
	}{
		"the store stays away": {func(b *storagetest.Faulty, _ func()) {
			b.Before = func(op storagetest.Op, k string) error { return away }
		}, away, storage.ErrUnavailable, 7},
		"the object is another": {func(b *storagetest.Faulty, _ func()) {
			write(t, b.Bucket, key, bytes.Repeat([]byte("x"), len(core)))
		}, away, storage.ErrChanged, 2},
		"the object is gone": {func(b *storagetest.Faulty, _ func()) {
			if _, err := b.Bucket.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}, io.EOF, storage.ErrNotFound, 2},
		"nobody waits":               {func(_ *storagetest.Faulty, cancel func()) { cancel() }, away, context.Canceled, 1},
		"a fault that does not pass": {func(*storagetest.Faulty, func()) {}, &storage.Error{Op: "read", Key: key, Kind: storage.ErrDenied}, storage.ErrDenied, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBucket(t)
			d := storage.NewDumps(b)
			rec := mustCommit(t, d, app, storage.CodecNone, core)
			b.Cut = func(string) (int64, error) { return 100_000, test.cut }
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, err := d.OpenBody(ctx, rec, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			before := b.Count(storagetest.OpOpen)
			b.Cut = func(string) (int64, error) { return 0, away }
			test.then(b, cancel)
			n, err := io.Copy(io.Discard, r)
			storagetest.IsError(t, err, test.want, key)
			if opens := b.Count(storagetest.OpOpen) - before; n != 99_000 && test.want != context.Canceled || opens >= test.most {
				t.Errorf("%d bytes, opened %d times more", n, opens)
			}
			if _, again := r.Read(make([]byte, 1)); again != err {
				t.Errorf("then: %v", again)
			}
		})
	}
}

// TestAnObjectThatWasReplacedByTheSameIsReadAndByAnotherIsNot: what is remembered of a body is of one version of it. That another has the same bytes only the
// store's checksum tells.
func TestAnObjectThatWasReplacedByTheSameIsReadAndByAnotherIsNot(t *testing.T) {
	core := storagetest.Bytes(3 << 20)
	key := app.Body(storage.CodecZstd)
	for _, checksum := range []string{"", "crc32c:AAA="} {
		b := &checksums{Bucket: newBucket(t), checksum: checksum}
		d := storage.NewDumps(b)
		rec := mustCommit(t, d, app, storage.CodecZstd, core)
		rec.Status.Checksum = "crc32c:AAA="
		before, err := d.CheckBody(t.Context(), rec)
		if err != nil {
			t.Fatal(err)
		}
		data := readObject(t, b, key)
		replace(t, b, key, data)
		for attempt := range 2 {
			got, err := read(t, d.OpenCoreRange, rec, 5, 2_000_000)
			if checksum == "" && attempt == 0 {
				storagetest.IsError(t, err, storage.ErrChanged, key)
			} else if err != nil || !bytes.Equal(got, core[5:2_000_005]) {
				t.Errorf("checksum %q: %d bytes, %v", checksum, len(got), err)
			}
		}
		if after, err := d.CheckBody(t.Context(), rec); err != nil || (after.ID == before.ID) != (checksum != "") {
			t.Errorf("checksum %q: the ID was %s and is %s, %v", checksum, before.ID, after.ID, err)
		}
		replace(t, b, key, data[:len(data)-1])
		_, err = read(t, d.OpenCoreRange, rec, 5, 2_000_000)
		storagetest.IsError(t, err, storage.ErrCorrupt, key)
	}
}

// TestTheLastBytesOfWhatIsWrongAreNotGiven: whoever knows the length, as a client of HTTP does, takes what has that length for complete.
func TestTheLastBytesOfWhatIsWrongAreNotGiven(t *testing.T) {
	core := storagetest.Bytes(300_000)
	b := verifying(t)
	d := storage.NewDumps(b)
	rec := mustCommit(t, d, app, storage.CodecNone, core)
	replace(t, b, app.Body(storage.CodecNone), append([]byte{core[0] ^ 1}, core[1:]...))
	if got, err := read(t, d.OpenBody, rec, 0, -1); !errors.Is(err, storage.ErrCorrupt) || len(got) >= len(core) {
		t.Errorf("the body: %d bytes, %v", len(got), err)
	}
	rec.Status.Checksum = ""
	if got, err := readCore(d, rec); !errors.Is(err, storage.ErrCorrupt) || len(got) >= len(core) {
		t.Errorf("the core: %d bytes, %v", len(got), err)
	}
}
