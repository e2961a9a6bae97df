// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// childEnv makes the test binary do the errand of that name.
const childEnv = "COREDUMP_FETCH_TEST_CHILD"

func TestMain(m *testing.M) {
	errands := map[string]func() error{"fetch": childFetch, "full disk": childFullDisk}
	errand, ok := errands[os.Getenv(childEnv)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := errand(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(t *testing.T, errand string, env ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(append(os.Environ(), childEnv+"="+errand), env...)
	cmd.Stderr = os.Stderr
	return cmd
}

func childFetch() error {
	var d Dump
	if err := json.Unmarshal([]byte(os.Getenv("DUMP")), &d); err != nil {
		return err
	}
	root, err := os.OpenRoot(os.Getenv("DIR"))
	if err != nil {
		return err
	}
	o := quick()
	o.Workers = 4
	// As at the server: what waits in the kernel is not what is measured.
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(64 << 10)
		}
		return c, err
	}}}
	_, err = File(ctxBackground, &Object{Client: client, Ranges: os.Getenv("URL"), Whole: os.Getenv("URL")}, d, root, o)
	return err
}

// Killed twenty times at random it still ends with the right bytes, and has fetched at most a tenth more than once.
func TestKilledAtRandom(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 256 MiB")
	}
	kills, size := 20, 256<<20
	if raceDetector { // which takes its time with every byte
		kills, size = 5, 96<<20
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := seeded(seed)
	content := make([]byte, size)
	fill(content, seed)
	object := compress(t, content, 4<<20)
	s := newServer(t, object)
	// What waits in the kernel when the client is killed was sent for nothing, on any network. Here it is the test's.
	s.http.Close()
	s.http = httptest.NewUnstartedServer(s)
	s.http.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			_ = c.(*net.TCPConn).SetWriteBuffer(64 << 10)
		}
	}
	s.http.Start()
	t.Cleanup(s.http.Close)
	d := record(content, object, true)
	encoded, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	for killed := 0; ; killed++ {
		cmd := child(t, "fetch", "DUMP="+string(encoded), "DIR="+p.path, "URL="+s.http.URL)
		enough := make(chan struct{}, 1)
		limit := s.sent.Load() + 1 + r.Int64N(2*int64(len(object))/int64(kills))
		s.mu.Lock()
		s.pace = func(*http.Request) {
			if killed < kills && s.sent.Load() >= limit {
				select {
				case enough <- struct{}{}:
				default:
				}
			}
		}
		s.mu.Unlock()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		var err error
		select {
		case <-enough:
			_ = cmd.Process.Kill()
			err = <-ended
		case err = <-ended:
		}
		if err == nil {
			t.Logf("killed %d times, sent %d bytes for %d: %.1f %% twice", killed, s.sent.Load(), len(object), 100*float64(s.sent.Load()-int64(len(object)))/float64(len(object)))
			break
		}
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
			t.Fatalf("was not killed: %v", err)
		}
		if killed > 3*kills {
			t.Fatal("never ends")
		}
	}
	p.has("x.core", content)
	if sent := s.sent.Load(); sent > int64(len(object))*11/10 {
		t.Errorf("sent %d bytes for %d", sent, len(object))
	}
}

// The disk gets full while a core arrives: the error says so, and when there is room the same call goes on. It is full before: nothing is fetched.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	cmd := child(t, "full disk", "DIR="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
}

// childFullDisk runs in a mount namespace of its own.
func childFullDisk() error {
	dir := os.Getenv("DIR")
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=24m"); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	content := make([]byte, 8<<20)
	fill(content, 1)
	t := &failures{}
	object := compress(t, content, 256<<10)
	s := newServer(t, object)
	d := record(content, object, true)

	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 20<<20), 0o600); err != nil {
		return err
	}
	_, err = File(ctxBackground, s.Object(), d, root, quick())
	if !errors.Is(err, ErrNoRoom) || !strings.Contains(err.Error(), "are free") || s.sent.Load() > 1<<20 {
		return fmt.Errorf("full before: %v, %d bytes sent", err, s.sent.Load())
	}
	if err := os.Remove(filler); err != nil {
		return err
	}
	s.pace = func(*http.Request) {
		if s.sent.Load() > 4<<20 {
			_ = os.WriteFile(filler, make([]byte, 24<<20), 0o600) // as much as there is
		}
	}
	_, err = File(ctxBackground, s.Object(), d, root, quick())
	if !errors.Is(err, ErrNoRoom) {
		return fmt.Errorf("full in the middle: %v", err)
	}
	s.http.Close() // and with it whatever fills the disk
	s = newServer(t, object)
	if err := os.Remove(filler); err != nil {
		return err
	}
	o := quick()
	if _, err := File(ctxBackground, s.Object(), d, root, o); err != nil || o.Meter.Had() < 1<<20 {
		return fmt.Errorf("with room again: %v, %d bytes were there", err, o.Meter.Had())
	}
	got, err := os.ReadFile(filepath.Join(dir, "x.core"))
	if err != nil || string(got) != string(content) {
		return fmt.Errorf("%d bytes, %v", len(got), err)
	}
	return t.err
}

// failures is a test in a child.
type failures struct {
	testing.TB
	err error
}

func (f *failures) Helper()           {}
func (f *failures) Cleanup(func())    {}
func (f *failures) Fatal(args ...any) { panic(fmt.Sprint(args...)) }
