// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/spool"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// handler hands out what it is asked.
type handler struct {
	judge func(ctx context.Context, crash *Crash) capture.Verdict
	ended chan *Crash
}

func (h *handler) Judge(ctx context.Context, crash *Crash) capture.Verdict {
	return h.judge(ctx, crash)
}
func (h *handler) Ended(crash *Crash) { h.ended <- crash }

func openSpool(t *testing.T) *spool.Spool {
	t.Helper()
	// A path that is longer than what a socket's address holds.
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	must(t, os.Mkdir(dir, 0o700))
	s, err := spool.Open(filepath.Join(dir, "spool"))
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// serve runs a server until the test ends.
func serve(t *testing.T, s *spool.Spool, server *Server) {
	t.Helper()
	l, err := Listen(s)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func request() *capture.Request {
	return &capture.Request{Entry: "entry", Meta: spool.Meta{Mode: "pipe", HostPID: 7, Comm: "a\x1b\n\xff", Verified: true}}
}

const patient = 10 * time.Second

func TestARequestIsAnsweredAndItsEndIsTold(t *testing.T) {
	s := openSpool(t)
	want := capture.Verdict{Action: capture.Drop, Reason: spool.ReasonOptedOut, MaxSize: 5, Sites: []string{"here"}}
	var got *Crash
	var pidfd, root unix.Stat_t
	h := &handler{ended: make(chan *Crash, 1), judge: func(_ context.Context, crash *Crash) capture.Verdict {
		got = crash
		_ = unix.Fstat(int(crash.PIDFD.Fd()), &pidfd)
		_ = unix.Fstat(int(crash.Root.Fd()), &root)
		return want
	}}
	serve(t, s, &Server{Handler: h})
	null, err := os.Open("/dev/null")
	must(t, err)
	defer null.Close()
	slash, err := os.Open("/")
	must(t, err)
	defer slash.Close()
	verdict, conn, err := Ask(s.SocketPath(), request(), int(null.Fd()), int(slash.Fd()), patient)
	must(t, err)
	if !reflect.DeepEqual(*verdict, want) {
		t.Errorf("verdict %+v", verdict)
	}
	if got.Entry != "entry" || got.Meta.HostPID != 7 || !got.Meta.Verified {
		t.Errorf("request %+v", got.Request)
	}
	var st unix.Stat_t
	must(t, unix.Fstat(int(slash.Fd()), &st))
	if root.Ino != st.Ino || pidfd.Mode&unix.S_IFMT != unix.S_IFCHR {
		t.Errorf("the descriptors are others: %+v %+v", pidfd, root)
	}
	select {
	case <-h.ended:
		t.Fatal("it ended before its end")
	default:
	}
	must(t, conn.Close())
	<-h.ended
}

func TestARequestWithoutDescriptorsIsAnswered(t *testing.T) {
	s := openSpool(t)
	h := &handler{ended: make(chan *Crash, 1), judge: func(_ context.Context, crash *Crash) capture.Verdict {
		if crash.PIDFD != nil || crash.Root != nil {
			t.Error("descriptors out of nothing")
		}
		return capture.Verdict{Action: capture.Keep}
	}}
	serve(t, s, &Server{Handler: h})
	_, conn, err := Ask(s.SocketPath(), request(), -1, -1, patient)
	must(t, err)
	must(t, conn.Close())
	<-h.ended
}

func TestWhereNobodyListensTheAnswerIsAnErrorAtOnce(t *testing.T) {
	s := openSpool(t)
	for range 2 {
		if _, conn, err := Ask(s.SocketPath(), request(), -1, -1, time.Hour); err == nil || conn != nil {
			t.Errorf("%v", err)
		}
		l, err := Listen(s) // leaves a socket behind, as a killed node handler does
		must(t, err)
		must(t, l.Close())
	}
}

func TestASlowNodeHandlerIsNotWaitedForButKnowsOfTheCrash(t *testing.T) {
	s := openSpool(t)
	h := &handler{ended: make(chan *Crash, 1), judge: func(ctx context.Context, _ *Crash) capture.Verdict {
		<-ctx.Done()
		return capture.Verdict{Action: capture.Keep}
	}}
	serve(t, s, &Server{Handler: h, Answer: time.Hour})
	_, conn, err := Ask(s.SocketPath(), request(), -1, -1, 30*time.Millisecond)
	if !errors.Is(err, unix.EAGAIN) || conn == nil {
		t.Fatalf("%v", err)
	}
	must(t, conn.Close())
	<-h.ended
}

func TestAStoppedNodeHandlerIsNotWaitedFor(t *testing.T) {
	s := openSpool(t)
	l, err := Listen(s) // and accepts nothing
	must(t, err)
	defer l.Close()
	_, conn, err := Ask(s.SocketPath(), request(), -1, -1, 30*time.Millisecond)
	if err == nil {
		t.Fatal("an answer by nobody")
	}
	if conn != nil {
		must(t, conn.Close())
	}
}

func TestAServerThatEndsEndsItsConnections(t *testing.T) {
	s := openSpool(t)
	l, err := Listen(s)
	must(t, err)
	h := &handler{ended: make(chan *Crash, 1), judge: func(context.Context, *Crash) capture.Verdict { return capture.Verdict{Action: capture.Keep} }}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- (&Server{Handler: h}).Serve(ctx, l) }()
	_, conn, err := Ask(s.SocketPath(), request(), -1, -1, patient)
	must(t, err)
	cancel()
	must(t, <-ended)
	<-h.ended
	must(t, conn.Close())
}

func TestMoreThanAreJudgedAtOnceAreTurnedAway(t *testing.T) {
	s := openSpool(t)
	h := &handler{ended: make(chan *Crash, 2), judge: func(context.Context, *Crash) capture.Verdict { return capture.Verdict{Action: capture.Keep} }}
	serve(t, s, &Server{Handler: h, Concurrent: 1})
	_, first, err := Ask(s.SocketPath(), request(), -1, -1, patient)
	must(t, err)
	if _, second, err := Ask(s.SocketPath(), request(), -1, -1, patient); err == nil {
		t.Error("a second is answered")
	} else if second != nil {
		second.Close()
	}
	must(t, first.Close())
	<-h.ended
}

func TestBadMessagesAreRefusedOnBothSides(t *testing.T) {
	for _, b := range []string{``, `{}`, `{"entry":"x"}`, `{"entry":"x","meta":{"hostPID":-1}}`, `{"entry":"x","meta":{"hostPID":1}} x`, `[`} {
		if r, err := decodeRequest([]byte(b)); !errors.Is(err, ErrMessage) {
			t.Errorf("request %s: %+v, %v", b, r, err)
		}
	}
	for _, b := range []string{``, `{}`, `{"action":"explode"}`, `{"action":"keep","maxSize":-1}`, `{"action":"keep"}{}`} {
		if v, err := decodeVerdict([]byte(b)); !errors.Is(err, ErrMessage) {
			t.Errorf("verdict %s: %+v, %v", b, v, err)
		}
	}
}

func TestTheSocketIsRootsAlone(t *testing.T) {
	s := openSpool(t)
	l, err := Listen(s)
	must(t, err)
	defer l.Close()
	st, err := os.Lstat(filepath.Join(s.Path(), spool.SocketFile))
	must(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
}

func FuzzMessages(f *testing.F) {
	f.Add([]byte(`{"entry":"x","meta":{"hostPID":1}}`))
	f.Add([]byte(`{"action":"keep","sites":["x"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeRequest(b); err == nil && (r.Entry == "" || r.Meta.HostPID <= 0) {
			t.Errorf("%+v", r)
		}
		if v, err := decodeVerdict(b); err == nil && v.Action == "" {
			t.Errorf("%+v", v)
		}
	})
}
