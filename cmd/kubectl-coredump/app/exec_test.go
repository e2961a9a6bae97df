// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
)

// A debugger here is not ended by Ctrl-C, nor by what that does to this program, and is by whatever else ends this program.
func TestWhatEndsInteractivePrograms(t *testing.T) {
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		const script = `trap "exit 7" TERM; echo ready; while :; do sleep 0.01; done`
		ended <- execute(ctx, Program{Args: []string{"sh", "-c", script}, Out: w, Err: io.Discard, Interactive: true})
		_ = w.Close()
	}()
	printed := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(r, printed); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	cancel() // as Ctrl-C does
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} { // execute has taken both before the program was there
		select {
		case err := <-ended:
			t.Fatalf("ended too early: %v", err)
		default:
		}
		if err := self.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("ended with %v, want the program's own exit code", err)
	}
}
