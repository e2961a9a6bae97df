// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/corefile/corefiletest"
	"example.io/coredump/pkg/spool"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newEntry(t testing.TB, dir string) *spool.Writer {
	t.Helper()
	s, err := spool.Open(filepath.Join(dir, "spool"))
	must(t, err)
	t.Cleanup(func() { s.Close() })
	w, err := s.Create("entry")
	must(t, err)
	t.Cleanup(func() { w.Close() })
	return w
}

// newJob is one with a pipe, to whose other end the returned file belongs.
func newJob(t testing.TB) (Job, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	return Job{
		Stream: r, Entry: newEntry(t, t.TempDir()), Started: time.Now(), Verdict: Verdict{Action: Keep},
		Limits: Limits{MaxSize: 1 << 30, CutSize: 1 << 20, Deadline: time.Hour, StallTimeout: time.Hour},
	}, w
}

// send writes to a pipe like a kernel that dumps: until it is told to stop, or is done.
func send(w *os.File, r io.Reader) <-chan int64 {
	sent := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(plainWriter{w}, r)
		w.Close()
		sent <- n
	}()
	return sent
}

func core(t testing.TB, e *spool.Writer) []byte {
	t.Helper()
	f, err := e.OpenCore()
	must(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	must(t, err)
	return b
}

func TestACoreArrivesByteForByteWithItsZerosAsHoles(t *testing.T) {
	const size = 24 << 20
	whole := corefiletest.Core(size, 1)
	clear(whole[1<<20+5 : 20<<20])
	clear(whole[size-3<<20:]) // ends in a hole
	job, w := newJob(t)
	send(w, bytes.NewReader(whole))
	o := Take(t.Context(), job)
	if o.Size != size || o.PromisedSize != size || o.Truncated != "" || o.Suppressed != "" || o.Error != "" {
		t.Errorf("outcome: %+v", o)
	}
	if o.FirstByteMicros <= 0 || o.HoldMicros < o.FirstByteMicros {
		t.Errorf("times: %+v", o)
	}
	if !bytes.Equal(core(t, job.Entry), whole) {
		t.Error("the core is another")
	}
	f, err := job.Entry.OpenCore()
	must(t, err)
	defer f.Close()
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &st))
	if st.Blocks*512 > 4<<20 {
		t.Errorf("%d bytes on the disk, of which 2 MiB are none", st.Blocks*512)
	}
}

func TestAnyPiecesGiveTheSameFile(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		whole := corefiletest.Core(corefiletest.MinSize+random.IntN(1<<20), random.Uint64())
		for range random.IntN(6) {
			from := min(corefiletest.MinSize+random.IntN(len(whole)), len(whole))
			clear(whole[from:min(from+random.IntN(1<<17), len(whole))])
		}
		file, err := os.Create(filepath.Join(t.TempDir(), "core"))
		must(t, err)
		s := &sparse{file: file}
		for rest := whole; len(rest) > 0; {
			n := min(1+random.IntN(20000), len(rest))
			must(t, s.write(rest[:n]))
			rest = rest[n:]
		}
		must(t, s.end())
		got, err := os.ReadFile(file.Name())
		must(t, errors.Join(err, file.Close()))
		if !bytes.Equal(got, whole) || s.size != int64(len(whole)) {
			t.Fatalf("another file: %d bytes of %d", len(got), len(whole))
		}
	}
}

// P18, and kernel.md: a SIGKILL ends a dump with a clean end of file.
func TestP18_ACleanEndBeforeThePromisedSizeIsMarkedKilled(t *testing.T) {
	const size, came = 8 << 20, 5<<20 + 17
	for _, cameNow := range []int{came, 40, 100, corefiletest.MinSize} {
		job, w := newJob(t)
		send(w, bytes.NewReader(corefiletest.Core(size, 1)[:cameNow]))
		o := Take(t.Context(), job)
		if o.Truncated != spool.ReasonKilled || o.Size != int64(cameNow) || o.Suppressed != "" {
			t.Errorf("%d bytes: %+v", cameNow, o)
		}
		if cameNow == came && o.PromisedSize != size {
			t.Errorf("promised %d", o.PromisedSize)
		}
	}
}

// endless is memory as a core bomb has it.
type endless struct{}

func (endless) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestP4_ACoreOfZerosBeyondTheLimitIsCutBeforeItIsRead(t *testing.T) {
	const promised = 64 << 40
	job, w := newJob(t)
	sent := send(w, io.MultiReader(bytes.NewReader(corefiletest.Header(promised)), io.LimitReader(endless{}, promised)))
	o := Take(t.Context(), job)
	if o.Truncated != spool.ReasonTooLarge || o.Size != job.Limits.CutSize || o.PromisedSize != promised {
		t.Errorf("%+v", o)
	}
	if n := <-sent; n > job.Limits.CutSize+2<<20 {
		t.Errorf("%d bytes had to be produced", n)
	}
}

func TestACoreThatLiesAboutItsSizeIsCutAtTheLimit(t *testing.T) {
	job, w := newJob(t)
	job.Limits.MaxSize = 3 << 20
	send(w, io.MultiReader(bytes.NewReader(corefiletest.Header(2<<20)), endless{}))
	if o := Take(t.Context(), job); o.Size != job.Limits.MaxSize {
		t.Errorf("%+v", o)
	}
}

func TestAVerdictCanOnlyLowerTheLimit(t *testing.T) {
	for _, c := range []struct{ verdict, want int64 }{{0, 4 << 20}, {8 << 20, 4 << 20}, {2 << 20, 1 << 20}} {
		job, w := newJob(t)
		job.Limits.MaxSize, job.Verdict.MaxSize = 5<<20, c.verdict
		send(w, bytes.NewReader(corefiletest.Core(4<<20, 1)))
		if o := Take(t.Context(), job); o.Size != c.want {
			t.Errorf("verdict %d: %+v", c.verdict, o)
		}
	}
}

func TestP6_AStalledDumpIsLetGo(t *testing.T) {
	job, w := newJob(t)
	job.Limits.StallTimeout = 50 * time.Millisecond
	_, err := w.Write(corefiletest.Core(1<<20, 1)[:10_000])
	must(t, err)
	o := Take(t.Context(), job)
	if o.Truncated != spool.ReasonStalled || o.Size != 10_000 {
		t.Errorf("%+v", o)
	}
	if _, err := w.Write([]byte{1}); !errors.Is(err, unix.EPIPE) {
		t.Errorf("the process is still held: %v", err)
	}
}

func TestP6_ADumpThatNeverEndsIsLetGoAtTheDeadline(t *testing.T) {
	job, w := newJob(t)
	job.Limits.Deadline = 100 * time.Millisecond
	job.Limits.MaxSize = 1 << 50
	send(w, io.MultiReader(bytes.NewReader(corefiletest.Header(1<<50)), slow{}))
	if o := Take(t.Context(), job); o.Truncated != spool.ReasonDeadline || o.Size == 0 || o.HoldMicros < 100_000 {
		t.Errorf("%+v", o)
	}
}

type slow struct{}

func (slow) Read(b []byte) (int, error) {
	time.Sleep(time.Millisecond)
	b[0] = 1
	return 1, nil
}

// hung is a file on a disk that does not answer.
type hung struct{ release chan struct{} }

func (h hung) WriteAt([]byte, int64) (int, error) { <-h.release; return 0, unix.EIO }
func (h hung) Truncate(int64) error               { return nil }
func (h hung) Close() error                       { return nil }

func TestP6_ADiskThatHangsHoldsNobodyBeyondTheDeadline(t *testing.T) {
	job, w := newJob(t)
	job.Limits.Deadline = 50 * time.Millisecond
	release := make(chan struct{})
	ended := make(chan spool.Outcome)
	go func() {
		taking := newTaking(job)
		taking.create = func() (coreFile, error) { return hung{release}, nil }
		taking.take(context.Background())
		ended <- taking.outcome
	}()
	n := <-send(w, endlessCore())
	if n > 2<<20 {
		t.Errorf("%d bytes were read", n)
	}
	select { // the process is free, the writer is not
	case o := <-ended:
		t.Fatalf("%+v", o)
	default:
	}
	close(release)
	<-ended
}

func endlessCore() io.Reader {
	return io.MultiReader(bytes.NewReader(corefiletest.Header(1<<30)), ones{})
}

type ones struct{}

func (ones) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 1
	}
	return len(b), nil
}

func TestAContextThatEndsLetsTheProcessGo(t *testing.T) {
	job, w := newJob(t)
	_, err := w.Write(corefiletest.Core(1<<20, 1)[:10_000])
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if o := Take(ctx, job); o.Truncated != spool.ReasonAbandoned {
		t.Errorf("%+v", o)
	}
}

func TestP5_ADroppedDumpIsNotRead(t *testing.T) {
	job, w := newJob(t)
	job.Verdict = Verdict{Action: Drop, Reason: spool.ReasonOptedOut}
	o := Take(t.Context(), job)
	if o.Suppressed != spool.ReasonOptedOut || o.Size != 0 {
		t.Errorf("%+v", o)
	}
	if _, err := w.Write([]byte{1}); !errors.Is(err, unix.EPIPE) {
		t.Errorf("the process is still held: %v", err)
	}
	noCore(t, job.Entry)
}

func noCore(t *testing.T, e *spool.Writer) {
	t.Helper()
	if _, err := e.OpenCore(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a core: %v", err)
	}
}

func TestWhatIsNoCoreIsNotKept(t *testing.T) {
	for what, c := range map[string]struct {
		bytes []byte
		want  spool.Reason
	}{
		"nothing":   {nil, spool.ReasonEmpty},
		"a text":    {bytes.Repeat([]byte("text "), 1000), spool.ReasonNotCore},
		"a program": {programHeader(), spool.ReasonNotCore},
	} {
		job, w := newJob(t)
		send(w, bytes.NewReader(c.bytes))
		if o := Take(t.Context(), job); o.Suppressed != c.want || o.Size != 0 || o.Truncated != "" {
			t.Errorf("%s: %+v", what, o)
		}
		noCore(t, job.Entry)
	}
}

func programHeader() []byte {
	b := corefiletest.Core(8192, 1)
	b[16] = 2 // ET_EXEC
	return b
}

// sited is a head whose place is known.
type sited struct{ head }

func (sited) Site() string { return "here" }

func TestARepeatedSiteIsSuppressed(t *testing.T) {
	for _, sites := range [][]string{{"here"}, {"there"}, nil} {
		job, w := newJob(t)
		job.Verdict.Sites = sites
		send(w, bytes.NewReader(corefiletest.Core(4<<20, 1)))
		taking := newTaking(job)
		taking.head = sited{taking.head}
		taking.take(t.Context())
		repeated := len(sites) > 0 && sites[0] == "here"
		if o := taking.outcome; (o.Suppressed == spool.ReasonRepeated) != repeated || o.Site != "here" {
			t.Errorf("sites %v: %+v", sites, o)
		}
	}
}

func TestP17_WithoutRoomNothingIsTaken(t *testing.T) {
	job, w := newJob(t)
	job.Limits.Spool.FreeBytes = 1 << 60
	sent := send(w, bytes.NewReader(corefiletest.Core(4<<20, 1)))
	if o := Take(t.Context(), job); o.Suppressed != spool.ReasonNoSpace || o.FirstByteMicros != 0 {
		t.Errorf("%+v", o)
	}
	<-sent
	noCore(t, job.Entry)
}

func TestP17_ACoreThatDoesNotFitIsCut(t *testing.T) {
	job, w := newJob(t)
	job.Limits.Spool.Bytes = 8 << 20
	send(w, bytes.NewReader(corefiletest.Core(16<<20, 1)))
	if o := Take(t.Context(), job); o.Truncated != spool.ReasonNoSpace || o.Size != job.Limits.CutSize || o.PromisedSize != 16<<20 {
		t.Errorf("%+v", o)
	}
}

func TestP17_ADiskThatRunsFullInTheMiddleLeavesWhatItHas(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	job, w := newJob(t)
	job.Entry = newEntry(t, dir)
	room, err := job.Entry.Spool().Room(job.Limits.Spool)
	must(t, err)
	const size = 20 << 20
	// Somebody else takes the room once this dump has begun.
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		b := corefiletest.Core(size, 1)
		_, _ = w.Write(b[:1<<20])
		other, err := os.Create(filepath.Join(dir, "other"))
		if err == nil {
			_, err = other.Write(make([]byte, room.Bytes-8<<20))
			err = errors.Join(err, other.Close())
		}
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(b[1<<20:])
		w.Close()
	}()
	o := Take(t.Context(), job)
	<-sent
	if o.Truncated != spool.ReasonNoSpace || o.PromisedSize != size || o.Size <= 1<<20 || o.Size >= size {
		t.Errorf("%+v", o)
	}
	if got := core(t, job.Entry); int64(len(got)) != o.Size || !bytes.Equal(got, corefiletest.Core(size, 1)[:len(got)]) {
		t.Errorf("%d bytes are kept of %d", len(got), o.Size)
	}
}

func BenchmarkTake(b *testing.B) {
	const size = 256 << 20
	whole := corefiletest.Core(size, 1)
	b.SetBytes(size)
	for b.Loop() {
		job, w := newJob(b)
		send(w, bytes.NewReader(whole))
		if o := Take(b.Context(), job); o.Size != size {
			b.Fatalf("%+v", o)
		}
	}
}
