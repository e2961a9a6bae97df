// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"example.io/coredump/pkg/seekable"
)

// Any core arrives, whole and checked, whatever it is stored as, and whatever is kept.
func TestAnyCoreArrives(t *testing.T) {
	for _, size := range []int{0, 1, 4095, 4096, 100_000, 3_000_001} {
		for _, form := range []string{"seekable", "zstd", "plain", "no ranges", "no ranges, plain"} {
			for _, keep := range []bool{false, true} {
				t.Run(fmt.Sprint(form, "/", size, "/", keep), func(t *testing.T) {
					content := likeCore(seeded(uint64(size)), size)
					object := content
					compressed := !strings.Contains(form, "plain")
					switch {
					case form == "zstd":
						e, err := zstd.NewWriter(nil)
						if err != nil {
							t.Fatal(err)
						}
						object = append([]byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 'x'}, e.EncodeAll(content, nil)...) // a skippable frame first
					case compressed:
						object = compress(t, content, 100_000)
					}
					s := newServer(t, object)
					s.plain = strings.Contains(form, "no ranges")
					p := newPlace(t)
					o := quick()
					o.KeepCompressed = keep
					name, err := p.fetch(s, record(content, object, compressed), o)
					if err != nil {
						t.Fatal(err)
					}
					if keep && compressed {
						p.has("x.core.zst", object)
					} else {
						p.has("x.core", content)
					}
					before := s.requests.Load()
					if again, err := p.fetch(s, record(content, object, compressed), o); again != name || err != nil || s.requests.Load() != before {
						t.Errorf("the second time: %s, %v, %d requests", again, err, s.requests.Load()-before)
					}
					var b bytes.Buffer
					if err := Stream(t.Context(), s.Object(), record(content, object, compressed), &b, o); err != nil {
						t.Fatal(err)
					}
					want := content
					if keep {
						want = object
					}
					if !bytes.Equal(b.Bytes(), want) {
						t.Errorf("the stream has %d bytes, want %d", b.Len(), len(want))
					}
				})
			}
		}
	}
}

// Frames of strangers may be large. They are not in memory side by side.
func TestLargeFrames(t *testing.T) {
	content := make([]byte, 120<<20)
	fill(content, 21)
	object := compress(t, content, 30<<20)
	s := newServer(t, object)
	p := newPlace(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := p.fetch(s, record(content, object, true), quick()); err != nil {
		t.Fatal(err)
	}
	if err := Stream(t.Context(), s.Object(), record(content, object, true), io.Discard, quick()); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 100<<20 {
		t.Errorf("took %d MiB of memory", n>>20)
	}
	p.has("x.core", content)
}

// Zeros take no room on the disk.
func TestZerosBecomeHoles(t *testing.T) {
	content := make([]byte, 64<<20)
	copy(content[40<<20:], "something")
	for _, compressed := range []bool{true, false} {
		object := content
		if compressed {
			object = compress(t, content, 1<<20)
		}
		p := newPlace(t)
		if _, err := p.fetch(newServer(t, object), record(content, object, compressed), quick()); err != nil {
			t.Fatal(err)
		}
		p.has("x.core", content)
		f, err := os.Open(filepath.Join(p.path, "x.core"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if n := used(f); n > 1<<20 {
			t.Errorf("compressed %v: the file takes %d bytes", compressed, n)
		}
	}
}

// Every request is cut off: by time as kube-apiserver's 60 s do, by a network that breaks, or by a server that goes away. What has arrived is not fetched again.
func TestEveryRequestIsCutOff(t *testing.T) {
	content := likeCore(seeded(2), 24<<20)
	object := compress(t, content, 1<<20)
	s := newServer(t, object)
	s.cut = func(request, n int64) int64 { return n * (request % 4) / 4 }
	var away atomic.Int64
	s.answer = func(n int64, w http.ResponseWriter, _ *http.Request) bool {
		switch n % 7 {
		case 3:
			away.Add(1)
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return true
		case 5:
			away.Add(1)
			panic(http.ErrAbortHandler)
		}
		return false
	}
	p := newPlace(t)
	o := quick()
	if _, err := p.fetch(s, record(content, object, true), o); err != nil {
		t.Fatal(err)
	}
	p.has("x.core", content)
	if away.Load() == 0 || s.requests.Load() < 10 {
		t.Errorf("%d requests, %d away", s.requests.Load(), away.Load())
	}
	if got := o.Meter.Fetched(); got > int64(len(object))+64<<10 {
		t.Errorf("took %d bytes for %d", got, len(object))
	}
	var b bytes.Buffer
	if err := Stream(t.Context(), s.Object(), record(content, object, true), &b, o); err != nil || !bytes.Equal(b.Bytes(), content) {
		t.Errorf("stream: %d bytes, %v", b.Len(), err)
	}
}

// Ctrl-C, and the same call again, with the server on another address the next day.
func TestGoesOnWhereItWasInterrupted(t *testing.T) {
	content := likeCore(seeded(3), 16<<20)
	object := compress(t, content, 256<<10)
	p := newPlace(t)
	var fetched int64
	for i := range 30 {
		s := newServer(t, object)
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("Ctrl-C")
		if i < 8 {
			s.pace = func(*http.Request) {
				if s.sent.Load() > int64(len(object)/10) {
					cancel(stop)
				}
			}
		}
		o := quick()
		_, err := File(ctx, s.Object(), record(content, object, true), p.root, o)
		fetched += o.Meter.Fetched()
		cancel(nil)
		if err == nil {
			p.has("x.core", content)
			if i < 4 || fetched > int64(len(object))*11/10 {
				t.Errorf("took %d bytes for %d in %d calls", fetched, len(object), i+1)
			}
			return
		}
		if ctx.Err() == nil || !strings.Contains(p.files(), "x.state") {
			t.Fatalf("%v; there are %s", err, p.files())
		}
	}
	t.Error("never ended")
}

// Another call may want to keep it compressed, or not any more.
func TestGoesOnInAnotherForm(t *testing.T) {
	content := likeCore(seeded(18), 4<<20)
	object := compress(t, content, 256<<10)
	for _, keep := range []bool{true, false} {
		s := newServer(t, object)
		p := newPlace(t)
		ctx, cancel := context.WithCancel(t.Context())
		s.pace = func(*http.Request) {
			if s.sent.Load() > int64(len(object)/2) {
				cancel()
			}
		}
		o := quick()
		o.KeepCompressed = !keep
		if _, err := File(ctx, s.Object(), record(content, object, true), p.root, o); err == nil {
			t.Fatal("was not interrupted")
		}
		s.set(func() { s.pace = nil })
		o = quick()
		o.KeepCompressed = keep
		if _, err := p.fetch(s, record(content, object, true), o); err != nil || o.Meter.Had() == 0 {
			t.Fatal(err, o.Meter.Had())
		}
		if keep {
			p.has("x.core.zst", object)
		} else {
			p.has("x.core", content)
		}
	}
}

// What an earlier call has left of the core is looked through only as long as somebody waits for it.
func TestLookingThroughTheCoreEnds(t *testing.T) {
	content := likeCore(seeded(19), 1<<20)
	object := compress(t, content, 64<<10)
	table, err := seekable.ParseTable(object, int64(len(object)))
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := out.Write(content); err != nil {
		t.Fatal(err)
	}
	u := &unpacker{dump: record(content, object, true), out: out}
	ctx, cancel := context.WithCancel(t.Context())
	if c, err := u.resume(ctx, table); err != nil || c.n != int64(len(content)) {
		t.Fatal(err)
	}
	cancel()
	if _, err := u.resume(ctx, table); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Without ranges there is nothing to go on with: it begins anew a few times, and keeps nothing then.
func TestServerWithoutRangesBreaksOff(t *testing.T) {
	content := likeCore(seeded(15), 2<<20)
	object := compress(t, content, 128<<10)
	for _, broken := range []int64{1, attempts - 1, attempts} {
		s := newServer(t, object)
		s.plain = true
		s.cut = func(request, n int64) int64 {
			if request <= 1+broken { // the first asks what there is
				return n / 2
			}
			return n
		}
		p := newPlace(t)
		_, err := p.fetch(s, record(content, object, true), quick())
		if broken < attempts {
			if err != nil {
				t.Fatalf("broke off %d times: %v", broken, err)
			}
			p.has("x.core", content)
			continue
		}
		fails(t, err, ErrIncomplete, "no ranges")
		p.empty()
	}
}

func TestChangedObjectIsNotMixed(t *testing.T) {
	content := likeCore(seeded(4), 8<<20)
	object := compress(t, content, 256<<10)
	other := compress(t, likeCore(seeded(5), 8<<20), 256<<10)
	other = append(other, make([]byte, max(0, len(object)-len(other)))...)[:len(object)]
	change := func(s *server) func(*http.Request) {
		return func(*http.Request) {
			if s.sent.Load() > int64(len(object)/2) {
				s.set(func() { s.object, s.etag = other, `"two"` })
			}
		}
	}
	s := newServer(t, object)
	s.pace = change(s)
	s.cut = func(_, n int64) int64 { return min(n, 300<<10) } // so that there is another request
	p := newPlace(t)
	_, err := p.fetch(s, record(content, object, true), quick())
	fails(t, err, ErrChanged, "changed")
	p.empty()

	// A server that does not know If-Match.
	s = newServer(t, object)
	s.pace, s.cut = change(s), func(_, n int64) int64 { return min(n, 300<<10) }
	s.answer = func(_ int64, _ http.ResponseWriter, r *http.Request) bool { r.Header.Del("If-Match"); return false }
	_, err = p.fetch(s, record(content, object, true), quick())
	fails(t, err, ErrChanged, `"\"two\""`)
	p.empty()
}

// What was kept of another object is not gone on with.
func TestStateOfAnotherObjectIsLeftAlone(t *testing.T) {
	content := likeCore(seeded(6), 4<<20)
	object := compress(t, content, 256<<10)
	s := newServer(t, object)
	p := newPlace(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.pace = func(*http.Request) {
		if s.sent.Load() > int64(len(object)/2) {
			cancel()
		}
	}
	if _, err := File(ctx, s.Object(), record(content, object, true), p.root, quick()); err == nil {
		t.Fatal("was not interrupted")
	}
	s.set(func() { s.pace, s.etag = nil, `"two"` })
	o := quick()
	if _, err := p.fetch(s, record(content, object, true), o); err != nil {
		t.Fatal(err)
	}
	p.has("x.core", content)
	if o.Meter.Had() != 0 || o.Meter.Fetched() < int64(len(object)) {
		t.Errorf("went on with %d bytes", o.Meter.Had())
	}
}

// A bit is flipped in the stored object, wherever; or once, on the way.
func TestFlippedBits(t *testing.T) {
	r := seeded(7)
	content := likeCore(r, 300_000)
	for _, form := range []string{"seekable", "plain", "no ranges"} {
		for range 60 {
			object := bytes.Clone(content)
			if form != "plain" {
				object = compress(t, content, 50_000)
			}
			d := record(content, object, form != "plain")
			object[r.IntN(len(object))] ^= 1 << r.IntN(8)
			s := newServer(t, object)
			s.plain = form == "no ranges"
			p := newPlace(t)
			if _, err := p.fetch(s, d, quick()); err == nil { // bits that mean nothing
				p.has("x.core", content)
			} else {
				fails(t, err, ErrWrong, "")
				p.empty()
			}
		}
	}
	object := compress(t, content, 50_000)
	bad := bytes.Clone(object)
	bad[len(bad)/2] ^= 4
	bad[len(bad)-20] ^= 4
	s := newServer(t, bad)
	s.answer = func(n int64, _ http.ResponseWriter, _ *http.Request) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch n { // 1 asks what there is, 2 has the table, 3 the table again
		case 3:
			s.object = bytes.Clone(object)
			s.object[100] ^= 4
		case 5: // 4 had the rest, 5 has the first frame again
			s.object = object
		}
		return false
	}
	p := newPlace(t)
	o := quick()
	o.Workers = 1
	if _, err := p.fetch(s, record(content, object, true), o); err != nil {
		t.Fatalf("flipped on the way: %v", err)
	}
	p.has("x.core", content)
	if n := s.requests.Load(); n != 5 {
		t.Errorf("took %d requests", n)
	}
}

// The machine went down: what was noted is not on the disk.
func TestBytesThatWereNotedAndLostAreFetchedAgain(t *testing.T) {
	content := likeCore(seeded(8), 4<<20)
	object := compress(t, content, 128<<10)
	for i := range 20 {
		r := seeded(uint64(100 + i))
		s := newServer(t, object)
		p := newPlace(t)
		ctx, cancel := context.WithCancel(t.Context())
		s.pace = func(*http.Request) {
			if s.sent.Load() > int64(len(object)*2/3) {
				cancel()
			}
		}
		if _, err := File(ctx, s.Object(), record(content, object, true), p.root, quick()); err == nil {
			t.Fatal("was not interrupted")
		}
		for _, name := range []string{"x.core.zst.part", "x.core.part"} {
			f, err := os.OpenFile(filepath.Join(p.path, name), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			info, _ := f.Stat()
			if r.IntN(2) == 0 {
				_ = f.Truncate(r.Int64N(info.Size() + 1))
			} else {
				_, _ = f.WriteAt(make([]byte, 200_000), r.Int64N(info.Size()+1))
			}
			_ = f.Close()
		}
		s.set(func() { s.pace = nil })
		if _, err := p.fetch(s, record(content, object, true), quick()); err != nil {
			t.Fatal(err)
		}
		p.has("x.core", content)
	}
}

func TestServerThatStandsStill(t *testing.T) {
	content := likeCore(seeded(9), 1<<20)
	object := compress(t, content, 128<<10)
	s := newServer(t, object)
	release := make(chan struct{})
	defer close(release)
	s.pace = func(r *http.Request) {
		if s.sent.Load() > 300_000 {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
	}
	p := newPlace(t)
	o := quick()
	o.GiveUp = 200 * time.Millisecond
	object2 := s.Object()
	object2.Stall = 50 * time.Millisecond
	_, err := File(t.Context(), object2, record(content, object, true), p.root, o)
	fails(t, err, ErrIncomplete, "sent nothing for too long")
	if p.files() != "x.core.part x.core.zst.part x.state" {
		t.Errorf("there are %s", p.files())
	}
	s.set(func() { s.pace = nil })
	o = quick()
	if _, err := p.fetch(s, record(content, object, true), o); err != nil || o.Meter.Had() == 0 {
		t.Fatal(err, o.Meter.Had())
	}
	p.has("x.core", content)
}

// Whoever was stopped (Ctrl-Z) for longer than the patience lasts goes on when he is let: his connections are gone, and the server is not.
func TestStoppedForLong(t *testing.T) {
	content := make([]byte, 4<<20)
	fill(content, 20)
	object := compress(t, content, 256<<10)
	s := newServer(t, object)
	var once sync.Once
	s.answer = func(n int64, w http.ResponseWriter, _ *http.Request) (failed bool) {
		if n > 4 {
			once.Do(func() {
				time.Sleep(500 * time.Millisecond)
				http.Error(w, "too late", http.StatusGatewayTimeout)
				failed = true
			})
		}
		return failed
	}
	s.cut = func(_, n int64) int64 { return min(n, 300<<10) }
	p := newPlace(t)
	o := quick()
	o.Workers, o.GiveUp = 1, 300*time.Millisecond
	if _, err := p.fetch(s, record(content, object, true), o); err != nil {
		t.Fatal(err)
	}
	p.has("x.core", content)
}

// What the server refuses is told as it is, and leaves nothing.
func TestRefusals(t *testing.T) {
	content := likeCore(seeded(10), 100_000)
	object := compress(t, content, 128<<10)
	for _, code := range []int{400, 401, 403, 404, 410} {
		s := newServer(t, object)
		s.answer = func(_ int64, w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, strings.Repeat("no", 1<<20), code)
			return true
		}
		p := newPlace(t)
		_, err := p.fetch(s, record(content, object, true), quick())
		var e *StatusError
		if !errors.As(err, &e) || e.Code != code || len(e.Body) > maxBody || s.requests.Load() != 1 {
			t.Errorf("%d: %v, %d requests", code, err, s.requests.Load())
		}
		p.empty()
	}
	// Right after a restart the server knows neither its users nor its resources.
	s := newServer(t, object)
	s.answer = func(n int64, w http.ResponseWriter, _ *http.Request) bool {
		code := map[int64]int{3: 403, 4: 404, 5: 401}[n]
		if code != 0 {
			w.WriteHeader(code)
		}
		return code != 0
	}
	s.cut = func(_, n int64) int64 { return (n + 1) / 2 }
	p := newPlace(t)
	if _, err := p.fetch(s, record(content, object, true), quick()); err != nil {
		t.Fatal(err)
	}
	p.has("x.core", content)
}

// Right after a restart all pieces that are under way are refused at once; a right that was taken away stays so.
func TestRefusalsOfAllPieces(t *testing.T) {
	content := make([]byte, 8<<20)
	fill(content, 16)
	object := compress(t, content, 256<<10)
	for _, last := range []time.Duration{300 * time.Millisecond, time.Hour} {
		s := newServer(t, object)
		var first atomic.Int64
		s.answer = func(_ int64, w http.ResponseWriter, _ *http.Request) bool {
			if s.sent.Load() < int64(len(object)/2) {
				return false
			}
			now := time.Now().UnixNano()
			if first.CompareAndSwap(0, now); now-first.Load() > int64(last) {
				return false
			}
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		s.cut = func(_, n int64) int64 { return min(n, 300<<10) }
		p := newPlace(t)
		o := quick()
		o.Workers, o.Delay, o.GiveUp = 16, 20*time.Millisecond, 2*time.Second
		_, err := p.fetch(s, record(content, object, true), o)
		var e *StatusError
		switch {
		case last < time.Second && err != nil:
			t.Errorf("refused for %s: %v", last, err)
		case last > time.Second && (!errors.As(err, &e) || e.Code != http.StatusForbidden || errors.Is(err, ErrIncomplete)):
			t.Errorf("refused for ever: %v", err)
		}
	}
}

// What is not compressed has no seek table, whatever it ends with: a core is what a process had in its memory. Nor is its end asked for twice.
func TestACoreThatEndsLikeASeekTable(t *testing.T) {
	for _, end := range [][]byte{compress(t, []byte("something"), 1000), nil} {
		content := append(likeCore(seeded(17), 300_000), end...)
		p := newPlace(t)
		o := quick()
		if _, err := p.fetch(newServer(t, content), record(content, content, false), o); err != nil {
			t.Fatal(err)
		}
		p.has("x.core", content)
		if n := o.Meter.Fetched(); n != int64(len(content)) {
			t.Errorf("took %d bytes for %d", n, len(content))
		}
	}
}

// A record that lies, and a server that has other sizes than the record.
func TestLies(t *testing.T) {
	content := likeCore(seeded(11), 300_000)
	object := compress(t, content, 128<<10)
	good := record(content, object, true)
	with := func(change func(*Dump)) Dump { d := good; change(&d); return d }
	bomb := compress(t, make([]byte, 256<<20), 32<<20)
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	unannounced := e.EncodeAll(make([]byte, 256<<20), nil)
	for _, test := range []struct {
		name   string
		object []byte
		dump   Dump
		what   string
	}{
		{"core is longer", object, with(func(d *Dump) { d.Size-- }), "core of 300000 bytes, the record says 299999"},
		{"core is shorter", object, with(func(d *Dump) { d.Size++ }), "core of 300000 bytes, the record says 300001"},
		{"another hash", object, with(func(d *Dump) { d.SHA256 = strings.Repeat("0", 64) }), "SHA-256"},
		{"truncated object", object[:len(object)-1], good, "the server has"},
		{"longer object", append(bytes.Clone(object), 0), good, "the server has"},
		{"negative size", object, with(func(d *Dump) { d.Size = -1 }), "record"},
		{"negative object", object, with(func(d *Dump) { d.ObjectSize = -1 }), "record"},
		{"bomb with a table", bomb, Dump{ID: "x", Size: 1000, ObjectSize: int64(len(bomb)), Compressed: true}, "core of 268435456 bytes"},
		{"bomb without", unannounced, Dump{ID: "x", Size: 1000, ObjectSize: int64(len(unannounced)), Compressed: true}, "more than the 1000 bytes"},
		{"plain for zstd", content, record(content, content, true), "no zstd"},
	} {
		for _, plain := range []bool{false, true} {
			t.Run(fmt.Sprint(test.name, "/", plain), func(t *testing.T) {
				if plain && (strings.Contains(test.name, "object") || strings.HasPrefix(test.name, "core is") || strings.Contains(test.name, "with a table")) {
					t.Skip("needs ranges")
				}
				s := newServer(t, test.object)
				s.plain = plain
				p := newPlace(t)
				_, err := p.fetch(s, test.dump, quick())
				fails(t, err, ErrWrong, test.what)
				p.empty()
				var b bytes.Buffer
				err = Stream(t.Context(), s.Object(), test.dump, &b, quick())
				fails(t, err, ErrWrong, "")
				if int64(b.Len()) > max(test.dump.Size, 0) {
					t.Errorf("wrote %d bytes", b.Len())
				}
			})
		}
	}
}

// 416 to a range of what the record and the first answer announced.
func TestRangeThatDoesNotExistAfterAll(t *testing.T) {
	content := likeCore(seeded(12), 300_000)
	object := compress(t, content, 128<<10)
	s := newServer(t, object)
	s.answer = func(n int64, w http.ResponseWriter, _ *http.Request) bool {
		if n > 1 {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}
		return n > 1
	}
	p := newPlace(t)
	_, err := p.fetch(s, record(content, object, true), quick())
	fails(t, err, ErrWrong, "does not exist")
	p.empty()
}

// Two at once would write the same files.
func TestOneAtATime(t *testing.T) {
	content := likeCore(seeded(13), 300_000)
	object := compress(t, content, 128<<10)
	s := newServer(t, object)
	p := newPlace(t)
	var second error
	s.pace = func(*http.Request) {
		if second == nil {
			_, second = File(t.Context(), newServer(t, object).Object(), record(content, object, true), p.root, quick())
		}
	}
	o := quick()
	o.Workers = 1
	if _, err := p.fetch(s, record(content, object, true), o); err != nil {
		t.Fatal(err)
	}
	fails(t, second, ErrBusy, "")
	p.has("x.core", content)
}

// In a directory that others can write to, what is there may be a trap.
func TestTrapsInTheDirectory(t *testing.T) {
	content := likeCore(seeded(14), 300_000)
	object := compress(t, content, 128<<10)
	for _, name := range []string{"x.state", "x.core.part", "x.core.zst.part", "x.core"} {
		for trap, set := range map[string]func(path, other string) error{
			"link":      func(path, other string) error { return os.Symlink(other, path) },
			"hard link": func(path, other string) error { return os.Link(other, path) },
			"readable":  func(path, other string) error { return os.WriteFile(path, nil, 0o644) },
			"directory": func(path, other string) error { return os.Mkdir(path, 0o700) },
		} {
			p := newPlace(t)
			other := filepath.Join(t.TempDir(), "other")
			if err := os.WriteFile(other, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := set(filepath.Join(p.path, name), other); err != nil {
				t.Fatal(err)
			}
			if _, err := p.fetch(newServer(t, object), record(content, object, true), quick()); err == nil {
				t.Errorf("%s is a %s: was used", name, trap)
			}
			if got, _ := os.ReadFile(other); string(got) != "precious" {
				t.Errorf("%s is a %s: %q", name, trap, got)
			}
			if _, err := os.Lstat(filepath.Join(p.path, name)); err != nil {
				t.Errorf("%s is a %s: %v", name, trap, err)
			}
		}
	}
}
