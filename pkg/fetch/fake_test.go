// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.io/coredump/pkg/registry/httprange"
	"example.io/coredump/pkg/seekable"
	"example.io/coredump/pkg/seekable/seekabletest"
)

// server has one object, and what goes wrong with it.
type server struct {
	t    testing.TB
	http *httptest.Server

	mu     sync.Mutex
	object []byte
	etag   string
	plain  bool // no ranges, no tag
	// answer is called first, and tells whether it has answered.
	answer func(n int64, w http.ResponseWriter, r *http.Request) bool
	// cut gives after how many bytes an answer of n bytes is cut off; negative for never.
	cut func(request, n int64) int64
	// pace sends slowly: it is called before each 32 KiB.
	pace func(r *http.Request)

	requests atomic.Int64
	sent     atomic.Int64
}

func newServer(t testing.TB, object []byte) *server {
	s := &server{t: t, object: object, etag: `"one"`}
	s.http = httptest.NewServer(s)
	t.Cleanup(s.http.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := s.requests.Add(1)
	s.mu.Lock()
	answer := s.answer
	s.mu.Unlock()
	if answer != nil && answer(n, w, r) {
		return
	}
	s.mu.Lock()
	object, etag, plain, cut, pace := s.object, s.etag, s.plain, s.cut, s.pace
	s.mu.Unlock()
	rep := httprange.Representation{Size: int64(len(object)), ETag: etag, Seekable: !plain}
	if plain {
		rep = httprange.Representation{Size: -1}
	}
	a := httprange.Decide(r.Method, r.Header, rep)
	a.SetHeader(w.Header())
	w.WriteHeader(a.Code)
	if a.Code >= 300 {
		return
	}
	body := object[a.Offset:]
	if a.Length >= 0 {
		body = body[:a.Length]
	}
	end := int64(-1)
	if cut != nil && len(body) > 1 { // not the first question
		if end = cut(n, int64(len(body))); end >= int64(len(body)) {
			end = -1
		}
	}
	for sent := 0; ; {
		if end >= 0 && int64(sent) >= end {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		if sent == len(body) {
			return
		}
		if pace != nil {
			pace(r)
		}
		piece := body[sent:min(len(body), sent+32<<10)]
		if end >= 0 {
			piece = piece[:min(int64(len(piece)), end-int64(sent))]
		}
		m, err := w.Write(piece)
		s.sent.Add(int64(m))
		sent += m
		if err != nil {
			return
		}
	}
}

// set changes the server while requests may be under way.
func (s *server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *server) Object() *Object {
	return &Object{Client: http.DefaultClient, Ranges: s.http.URL + "/dump", Whole: s.http.URL + "/proxy", Stall: 10 * time.Second}
}

// likeCore is content that compresses as cores do.
func likeCore(r *rand.Rand, n int) []byte { return seekabletest.LikeCore(r, n, n/8+1) }

func compress(t testing.TB, content []byte, frame int) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := seekable.NewWriter(&b, seekable.Options{FrameSize: frame})
	if err == nil {
		_, err = z.Write(content)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func record(content, object []byte, compressed bool) Dump {
	sum := sha256.Sum256(content)
	return Dump{ID: "shop/checkout.app.20260101t000000z-0123456789", Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:]),
		ObjectSize: int64(len(object)), Compressed: compressed}
}

// place is a directory to fetch into.
type place struct {
	t    testing.TB
	path string
	root *os.Root
}

func newPlace(t testing.TB) *place {
	return placeAt(t, t.TempDir())
}

func placeAt(t testing.TB, path string) *place {
	root, err := os.OpenRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return &place{t, path, root}
}

func quick() Options {
	return Options{Name: "x", Workers: 3, Delay: time.Millisecond, GiveUp: 10 * time.Second, Meter: &Meter{}}
}

func (p *place) fetch(s *server, d Dump, o Options) (string, error) {
	return File(p.t.Context(), s.Object(), d, p.root, o)
}

// files are the names of what is in the directory.
func (p *place) files() string {
	p.t.Helper()
	var names []string
	entries, err := fs.ReadDir(p.root.FS(), ".")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// has fails the test unless the directory has the file with the content, for its owner alone, and nothing else.
func (p *place) has(name string, content []byte) {
	p.t.Helper()
	got, err := os.ReadFile(filepath.Join(p.path, name))
	if err != nil || !bytes.Equal(got, content) {
		p.t.Fatalf("%s has %d bytes that are not the %d it should have: %v", name, len(got), len(content), err)
	}
	info, err := os.Stat(filepath.Join(p.path, name))
	if err != nil || info.Mode() != 0o600 {
		p.t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	if files := p.files(); files != name {
		p.t.Errorf("there are %s", files)
	}
}

// empty fails the test if anything is left.
func (p *place) empty() {
	p.t.Helper()
	if files := p.files(); files != "" {
		p.t.Errorf("left behind: %s", files)
	}
}

// fails fails the test unless err is of the kind and says what.
func fails(t testing.TB, err, kind error, what string) {
	t.Helper()
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), what) {
		t.Errorf("got %v, want %v: %s", err, kind, what)
	}
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

var ctxBackground = context.Background()

// fill makes bytes that do not compress.
func fill(b []byte, seed uint64) {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	_, _ = rand.NewChaCha8(key).Read(b)
}
