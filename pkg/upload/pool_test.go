// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package upload

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/bundle"
	"example.io/coredump/pkg/corefile/corefiletest"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/file"
	"example.io/coredump/pkg/storage/storagetest"
)

// patience is how long tests wait for what must happen. It is never waited for in vain when they pass.
const patience = 30 * time.Second

// fakeDump is a dump in memory.
type fakeDump struct {
	pod      string
	data     []byte
	codec    storage.Codec
	promised int64
	openErr  error
	context  func(context.Context) ([]bundle.File, error)
	process  v1alpha1.Process

	mu        sync.Mutex
	changed   bool // as seen by Unchanged and Remove
	gone      bool
	removeErr error
	aside     Reason
	rechecks  atomic.Int32
	opens     atomic.Int32
}

func (d *fakeDump) Path() string { return "ns/" + d.pod + "/c/core" }
func (d *fakeDump) Recheck()     { d.rechecks.Add(1) }

func (d *fakeDump) Open() (*Opened, error) {
	d.opens.Add(1)
	if d.openErr != nil {
		return nil, d.openErr
	}
	crash := time.Unix(1_700_000_000, 0)
	rec := &v1alpha1.CoreDump{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}}
	rec.Spec.PodName, rec.Spec.ContainerName = d.pod, "c"
	rec.Spec.Process = d.process
	rec.Spec.Process.Time = metav1.NewTime(crash)
	rec.Status.PromisedSize = d.promised
	return &Opened{Record: rec, ID: storage.NewID(crash, d.pod), Codec: d.codec, Size: int64(len(d.data)), File: &fakeFile{Reader: bytes.NewReader(d.data), d: d}, Context: d.context}, nil
}

type fakeFile struct {
	*bytes.Reader
	d *fakeDump
}

func (f *fakeFile) Close() error { return nil }

// WriteTo is hidden: the file of a real dump has none.
func (f *fakeFile) Read(p []byte) (int, error) { return f.Reader.Read(p) }

func (f *fakeFile) Unchanged() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.changed {
		return ErrChanged
	}
	return nil
}

func (f *fakeFile) Remove() error {
	if err := f.Unchanged(); err != nil {
		return err
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.removeErr; err != nil {
		f.d.removeErr = nil
		return err
	}
	f.d.gone = true
	return nil
}

func (f *fakeFile) SetAside(reason Reason, _ string) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.aside = reason
	return nil
}

func (d *fakeDump) removed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gone
}

type nobody struct{}

func (nobody) Identify(context.Context, *v1alpha1.CoreDump) error { return nil }

type identify func(ctx context.Context, d *v1alpha1.CoreDump) error

func (f identify) Identify(ctx context.Context, d *v1alpha1.CoreDump) error { return f(ctx, d) }

// running is a pool that runs, over a bucket that can be made to fail.
type running struct {
	*Pool
	bucket *storagetest.Faulty
	stop   func()
}

func start(t *testing.T, change func(*Options, *storagetest.Faulty), who Identifier) *running {
	t.Helper()
	dir, err := file.Open(t.TempDir(), file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &running{bucket: &storagetest.Faulty{Bucket: dir}}
	opts := Options{Workers: 2, Codec: storage.CodecZstd, CompressionWorkers: 1, MaxSize: 1 << 30, MaxBackoff: 5 * time.Millisecond}
	if change != nil {
		change(&opts, r.bucket)
	}
	r.Pool = New(storage.NewDumps(r.bucket), who, opts)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come to this: %s", what)
		}
	}
}

func (r *running) empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting) == 0
}

// stored gives the records in the bucket, having compared every core with its record.
func (r *running) stored(t *testing.T) map[string]*v1alpha1.CoreDump {
	t.Helper()
	records := map[string]*v1alpha1.CoreDump{}
	dumps := storage.NewDumps(r.bucket.Bucket)
	for l, err := range dumps.List(t.Context(), storage.Scope{}, "") {
		if err = errors.Join(err, l.Err); err != nil {
			t.Fatal(err)
		}
		core, err := dumps.OpenCore(t.Context(), l.Record)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, core); err != nil {
			t.Errorf("%s: %v", l.Key.Name(), err)
		}
		core.Close()
		records[l.Record.Spec.PodName] = l.Record
	}
	return records
}

func (r *running) leftovers(t *testing.T) (n int) {
	t.Helper()
	for _, err := range r.bucket.Bucket.Uploads(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func gz(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(data)
	_ = z.Close()
	return b.Bytes()
}

func zst(data []byte) []byte {
	z, _ := zstd.NewWriter(nil)
	return z.EncodeAll(data, nil)
}

func TestEveryKindOfDumpIsStoredWithItsSum(t *testing.T) {
	core := corefiletest.Core(3<<20, 1)
	sum := sha256.Sum256(core)
	for _, codec := range []storage.Codec{storage.CodecNone, storage.CodecGzip, storage.CodecZstd} {
		r := start(t, func(o *Options, _ *storagetest.Faulty) { o.Codec = codec }, nobody{})
		dumps := []*fakeDump{
			{pod: "plain", data: core, promised: 3 << 20},
			{pod: "gz", data: gz(core), codec: storage.CodecGzip, promised: 3 << 20},
			{pod: "zst", data: zst(core), codec: storage.CodecZstd, promised: 3 << 20},
			{pod: "members", data: append(gz(core[:1<<20]), gz(core[1<<20:])...), codec: storage.CodecGzip, promised: 3 << 20},
			{pod: "cut", data: core[:1<<20], promised: 3 << 20},
		}
		for _, d := range dumps {
			if !r.Offer(d) {
				t.Fatal("not taken")
			}
		}
		eventually(t, "all are done with", r.empty)
		got := r.stored(t)
		for _, d := range dumps {
			rec := got[d.pod]
			if rec == nil || !d.removed() {
				t.Errorf("%s as %q: stored %v, removed %v", d.pod, codec, rec != nil, d.removed())
				continue
			}
			st := rec.Status
			want := codec
			if d.codec != storage.CodecNone {
				want = d.codec
				if st.StoredSize != int64(len(d.data)) {
					t.Errorf("%s: %d bytes are stored of %d", d.pod, st.StoredSize, len(d.data))
				}
			}
			cut := d.pod == "cut"
			if st.Codec != string(want) || st.Truncated != cut || (st.TruncatedReason != "") != cut || st.PromisedSize != 3<<20 || st.UploadTime == nil ||
				!cut && (st.SHA256 != hex.EncodeToString(sum[:]) || st.Size != 3<<20) {
				t.Errorf("%s as %q: %+v", d.pod, codec, st)
			}
		}
	}
}

func TestARecordSaysWhatTheCoreSaysOfTheCrash(t *testing.T) {
	core := corefiletest.Build(corefiletest.Process{
		Machine: elf.EM_X86_64, Signal: 11, Code: 1, Address: 8, PID: 7, Comm: "server", Phdr: 0x400040,
		Threads: []corefiletest.Thread{{TID: 9, PC: 0x401f2c}, {TID: 7}},
		Mappings: []corefiletest.Mapping{
			{Start: 0x400000, Size: 0x1000, Path: "/app/server", Bytes: corefiletest.FilePage(elf.EM_X86_64, bytes.Repeat([]byte{0x93}, 20), false)},
			{Start: 0x401000, Size: 0x1000, Path: "/app/server", Offset: 0x1000, Exec: true},
		},
	})
	r := start(t, nil, nobody{})
	dumps := []*fakeDump{
		{pod: "plain", data: core},
		{pod: "gz", data: gz(core), codec: storage.CodecGzip},
		{pod: "zst", data: zst(core), codec: storage.CodecZstd},
		{pod: "known", data: core, process: v1alpha1.Process{Executable: "a", Comm: "b", PID: 1, Signal: 6, SignalName: "SIGABRT"}},
	}
	for _, d := range dumps {
		r.Offer(d)
	}
	eventually(t, "all are done with", r.empty)
	for pod, rec := range r.stored(t) {
		p, s := rec.Spec.Process, rec.Status.Summary
		p.Time = metav1.Time{}
		want := v1alpha1.Process{Executable: "/app/server", Comm: "server", PID: 7, Signal: 11, SignalName: "SIGSEGV"}
		if pod == "known" {
			want = dumps[3].process
		}
		if p != want || rec.Status.PromisedSize != int64(len(core)) || rec.Status.Truncated ||
			s == nil || s.Text != "SIGSEGV (address not mapped) at 0x8 in /app/server+0x1f2c (build-id 93939393...), thread 2 of 2" || s.Signature == "" {
			t.Errorf("%s: %+v, %+v, %+v", pod, p, rec.Status, s)
		}
	}
}

func TestACoreThatMakesNoSenseIsUploadedAllTheSame(t *testing.T) {
	evil := corefiletest.Core(5000, 1)
	binary.LittleEndian.PutUint64(evil[64+56+32:], math.MaxUint64) // promises 16 EiB
	binary.LittleEndian.PutUint32(evil[64+2*56+4:], math.MaxUint32)
	r := start(t, nil, nobody{})
	for pod, data := range map[string][]byte{"evil": evil, "none": bytes.Repeat([]byte("no core "), 1000)} {
		r.Offer(&fakeDump{pod: pod, data: data})
	}
	eventually(t, "all are done with", r.empty)
	got := r.stored(t)
	if len(got) != 2 || !got["evil"].Status.Truncated || got["none"].Status.Summary != nil || got["none"].Status.Truncated {
		t.Errorf("%+v", got)
	}
}

func TestADumpWaitsForAStoreThatIsAway(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	var failed atomic.Int32
	r := start(t, func(_ *Options, b *storagetest.Faulty) {
		b.Before = func(op storagetest.Op, key string) error {
			if away.Load() {
				failed.Add(1)
				return &storage.Error{Op: string(op), Key: key, Kind: storage.ErrUnavailable}
			}
			return nil
		}
	}, nobody{})
	d := &fakeDump{pod: "p", data: corefiletest.Core(5000, 1)}
	r.Offer(d)
	eventually(t, "several attempts", func() bool { return failed.Load() > 5 })
	if d.removed() {
		t.Fatal("removed while the store is away")
	}
	away.Store(false)
	eventually(t, "it is stored", d.removed)
	if len(r.stored(t)) != 1 {
		t.Error("not stored")
	}
}

func TestABadDumpBlocksNoOther(t *testing.T) {
	for what, kind := range map[string]error{"denied": storage.ErrDenied, "corrupt": storage.ErrCorrupt, "unavailable": storage.ErrUnavailable} {
		r := start(t, func(o *Options, b *storagetest.Faulty) {
			o.Workers = 1
			b.Before = func(op storagetest.Op, key string) error {
				if op == storagetest.OpPut && strings.Contains(key, "/bad/") {
					return &storage.Error{Op: "put", Key: key, Kind: kind}
				}
				return nil
			}
		}, nobody{})
		bad := &fakeDump{pod: "bad", data: corefiletest.Core(5000, 1)}
		r.Offer(bad)
		eventually(t, "an attempt at the bad one", func() bool { return bad.opens.Load() > 0 })
		good := &fakeDump{pod: "good", data: corefiletest.Core(5000, 2)}
		r.Offer(good)
		eventually(t, "the good one is stored", good.removed)
		if bad.removed() || len(r.stored(t)) != 1 {
			t.Errorf("%s: the bad one was removed: %v", what, bad.removed())
		}
	}
}

func TestALostAnswerEndsInOneDump(t *testing.T) {
	for _, suffix := range []string{".core.zst", ".json"} {
		var lost atomic.Bool
		r := start(t, func(_ *Options, b *storagetest.Faulty) {
			b.After = func(op storagetest.Op, key string) error {
				if op == storagetest.OpPut && strings.HasSuffix(key, suffix) && lost.CompareAndSwap(false, true) {
					return &storage.Error{Op: "put", Key: key, Kind: storage.ErrUnavailable}
				}
				return nil
			}
		}, nobody{})
		d := &fakeDump{pod: "p", data: corefiletest.Core(5000, 1)}
		r.Offer(d)
		eventually(t, "it is stored", d.removed)
		if len(r.stored(t)) != 1 || d.opens.Load() != 2 {
			t.Errorf("%s: %d records after %d attempts", suffix, len(r.stored(t)), d.opens.Load())
		}
	}
}

func TestADumpThatCannotBeRemovedIsNotStoredTwice(t *testing.T) {
	r := start(t, nil, nobody{})
	d := &fakeDump{pod: "p", data: corefiletest.Core(5000, 1), removeErr: errors.New("read-only file system")}
	r.Offer(d)
	eventually(t, "it is removed", d.removed)
	bodies := 0
	for _, c := range r.bucket.Calls() {
		if c.Op == storagetest.OpPut && strings.HasSuffix(c.Key, ".core.zst") {
			bodies++
		}
	}
	if bodies != 1 {
		t.Errorf("the body was stored %d times", bodies)
	}
}

func TestADumpThatChangesIsNotStored(t *testing.T) {
	for _, codec := range []storage.Codec{storage.CodecNone, storage.CodecGzip} {
		r := start(t, nil, nobody{})
		d := &fakeDump{pod: "p", data: corefiletest.Core(5000, 1), changed: true}
		if codec == storage.CodecGzip {
			d.codec, d.data = codec, gz(d.data)
		}
		r.Offer(d)
		eventually(t, "it is given back", r.empty)
		if d.rechecks.Load() != 1 || d.removed() || len(r.stored(t)) != 0 || r.leftovers(t) != 0 {
			t.Errorf("codec %q: %d rechecks, removed %v, %d records, %d leftovers", codec, d.rechecks.Load(), d.removed(), len(r.stored(t)), r.leftovers(t))
		}
	}
}

func TestADumpThatIsGoneIsForgotten(t *testing.T) {
	r := start(t, nil, nobody{})
	d := &fakeDump{pod: "p", openErr: ErrGone}
	r.Offer(d)
	eventually(t, "it is forgotten", r.empty)
	if d.opens.Load() != 1 || d.rechecks.Load() != 0 {
		t.Errorf("opened %d times, %d rechecks", d.opens.Load(), d.rechecks.Load())
	}
}

func TestWhatDoesNotDecompressIsSetAside(t *testing.T) {
	core := corefiletest.Core(100_000, 1)
	whole := gz(core)
	broken := append([]byte(nil), whole...)
	broken[len(broken)/2] ^= 1
	for what, c := range map[string]struct {
		d    *fakeDump
		want Reason
	}{
		"cut off":           {&fakeDump{data: whole[:len(whole)/2], codec: storage.CodecGzip}, ReasonCorrupt},
		"a flipped bit":     {&fakeDump{data: broken, codec: storage.CodecGzip}, ReasonCorrupt},
		"trailing rubbish":  {&fakeDump{data: append(gz(core), "rubbish"...), codec: storage.CodecGzip}, ReasonCorrupt},
		"another codec":     {&fakeDump{data: whole, codec: storage.CodecZstd}, ReasonCorrupt},
		"cut off, zstd":     {&fakeDump{data: zst(core)[:50_000], codec: storage.CodecZstd}, ReasonCorrupt},
		"larger than it is": {&fakeDump{data: gz(make([]byte, 1<<20)), codec: storage.CodecGzip}, ReasonTooLarge},
	} {
		r := start(t, func(o *Options, _ *storagetest.Faulty) { o.MaxSize = 200_000 }, nobody{})
		d := c.d
		d.pod = "p"
		r.Offer(d)
		eventually(t, "it is done with", r.empty)
		if d.aside != c.want || d.removed() || len(r.stored(t)) != 0 || r.leftovers(t) != 0 {
			t.Errorf("%s: set aside as %q, removed %v", what, d.aside, d.removed())
		}
	}
}

func TestADumpWaitsUntilItIsKnownWhose(t *testing.T) {
	var asked atomic.Int32
	r := start(t, nil, identify(func(_ context.Context, d *v1alpha1.CoreDump) error {
		if asked.Add(1) < 4 {
			return errors.New("the API server is away")
		}
		d.Spec.NamespaceUID = "uid"
		return nil
	}))
	d := &fakeDump{pod: "p", data: corefiletest.Core(5000, 1)}
	r.Offer(d)
	eventually(t, "it is stored", d.removed)
	if rec := r.stored(t)["p"]; rec.Spec.NamespaceUID != "uid" {
		t.Errorf("%+v", rec.Spec)
	}
}

// blocking makes every Put of a body wait until release is closed or its context ends.
func blocking(begun chan<- string, release <-chan struct{}) func(storagetest.Op, string) error {
	return func(op storagetest.Op, key string) error {
		if op == storagetest.OpPut && !strings.HasSuffix(key, ".json") {
			begun <- key
			<-release
		}
		return nil
	}
}

func TestRunningUploadsMayFinish(t *testing.T) {
	begun, release := make(chan string, 10), make(chan struct{})
	r := start(t, func(o *Options, b *storagetest.Faulty) {
		o.Workers, o.Grace = 1, patience
		b.Before = blocking(begun, release)
	}, nobody{})
	first, second := &fakeDump{pod: "first", data: corefiletest.Core(5000, 1)}, &fakeDump{pod: "second", data: corefiletest.Core(5000, 2)}
	r.Offer(first)
	<-begun
	r.Offer(second)
	stopped := make(chan struct{})
	go func() { defer close(stopped); r.stop() }()
	eventually(t, "the queue is closed", r.queue.ShuttingDown)
	if r.Offer(&fakeDump{pod: "third"}) {
		t.Error("a dump is taken at the end")
	}
	close(release)
	<-stopped
	if !first.removed() || second.removed() || second.opens.Load() != 0 {
		t.Errorf("first removed: %v, second removed: %v", first.removed(), second.removed())
	}
}

func TestUploadsAreCancelledAfterTheGracePeriod(t *testing.T) {
	entered := make(chan struct{}, 1)
	r := start(t, func(o *Options, _ *storagetest.Faulty) { o.Grace = 10 * time.Millisecond }, identify(func(ctx context.Context, _ *v1alpha1.CoreDump) error {
		entered <- struct{}{}
		<-ctx.Done()
		return context.Cause(ctx)
	}))
	d := &fakeDump{pod: "p", data: corefiletest.Core(5000, 1)}
	r.Offer(d)
	<-entered
	r.stop() // returns
	if d.removed() || len(r.stored(t)) != 0 {
		t.Error("a cancelled upload removed its dump")
	}
}

func TestADumpIsQueuedOnce(t *testing.T) {
	begun, release := make(chan string, 10), make(chan struct{})
	r := start(t, func(o *Options, b *storagetest.Faulty) { o.Grace = patience; b.Before = blocking(begun, release) }, nobody{})
	d := &fakeDump{pod: "p", data: corefiletest.Core(5000, 1)}
	for range 3 {
		r.Offer(d)
	}
	<-begun
	r.Offer(d)
	close(release)
	eventually(t, "it is done with", r.empty)
	r.stop()
	if d.opens.Load() != 1 {
		t.Errorf("opened %d times", d.opens.Load())
	}
}

func TestTheQueueIsBounded(t *testing.T) {
	p := New(nil, nobody{}, Options{})
	defer p.queue.ShutDown()
	for i := range maxQueue {
		if !p.Offer(&fakeDump{pod: fmt.Sprint(i)}) {
			t.Fatalf("full after %d", i)
		}
	}
	if p.Offer(&fakeDump{pod: "more"}) {
		t.Error("takes more")
	}
	if !p.Offer(&fakeDump{pod: "0"}) {
		t.Error("does not know what it has")
	}
}

func TestAWorkerThatDoesNotMoveIsSeen(t *testing.T) {
	p := New(nil, nobody{}, Options{})
	defer p.queue.ShutDown()
	a := &attempt{pool: p, item: &item{dump: &fakeDump{pod: "p"}}}
	a.move()
	p.running[a] = struct{}{}
	if err := p.Alive(); err != nil {
		t.Error(err)
	}
	a.moved.Store(time.Now().Add(-lifeless - time.Minute).UnixNano())
	if err := p.Alive(); err == nil || !strings.Contains(err.Error(), "ns/p/c/core") {
		t.Errorf("alive: %v", err)
	}
}

func TestPausesGrowToTheirBound(t *testing.T) {
	for attempts := 1; attempts < 100; attempts++ {
		want := time.Minute
		if attempts < 7 {
			want = min(time.Minute, time.Second<<(attempts-1))
		}
		for range 20 {
			if got := backoff(attempts, time.Minute); got < want/2 || got > want {
				t.Fatalf("after %d attempts: %v", attempts, got)
			}
		}
	}
}

// forgetful is a bucket that once says of a body that it has less than it was sent.
type forgetful struct {
	storage.Bucket
	lied atomic.Bool
}

func (b *forgetful) Put(ctx context.Context, key string, r io.Reader, opts storage.PutOptions) (storage.Object, error) {
	obj, err := b.Bucket.Put(ctx, key, r, opts)
	if err == nil && b.lied.CompareAndSwap(false, true) {
		obj.Size--
	}
	return obj, err
}

func TestAStoreThatHasLessThanItWasSentIsNotBelieved(t *testing.T) {
	var store *forgetful
	r := start(t, func(_ *Options, b *storagetest.Faulty) {
		store = &forgetful{Bucket: b.Bucket}
		b.Bucket = store
	}, nobody{})
	d := &fakeDump{pod: "p", data: corefiletest.Core(5000, 1)}
	r.Offer(d)
	eventually(t, "it is stored", d.removed)
	if d.opens.Load() != 2 || !store.lied.Load() || len(r.stored(t)) != 1 {
		t.Errorf("%d attempts", d.opens.Load())
	}
}
