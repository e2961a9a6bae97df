// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// shell is a bash on a terminal, as people have it.
type shell struct {
	// terminal is the side of the terminal where the person is. Closing it is what closing the window is.
	terminal *os.File
	commands *os.File
	// screen is all that was ever printed.
	screen output
	// printed is what each command printed; closed when the shell ends.
	printed chan string
}

// endMark is the byte that ends what a command printed.
const endMark = 0x1e

// evaluate is what bash runs. Commands come by another descriptor than the terminal, which is for the programs, and end with a zero. $? is that of the
// command before.
const evaluate = `code=0; while IFS= read -r -d '' -u 3 command; do { (exit $code); eval "$command"; } 3<&-; code=$?; printf '\036'; done`

// newShell starts a shell with a home directory. Programs in its directory bin come before those of path. It ends with the test.
func newShell(t *testing.T, home, path string) *shell {
	t.Helper()
	master, slave, err := terminal()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "--norc", "--noprofile", "-c", evaluate)
	cmd.Dir = home
	cmd.Env = []string{"HOME=" + home, "PATH=" + home + "/bin:" + path, "TERM=xterm", "LC_ALL=C"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = slave, slave, slave, []*os.File{r}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	r.Close()
	s := &shell{terminal: master, commands: w, printed: make(chan string)}
	ended := make(chan struct{})
	go func() {
		defer close(s.printed)
		for in := bufio.NewReader(io.TeeReader(master, &s.screen)); ; {
			piece, err := in.ReadString(endMark)
			if err != nil {
				return
			}
			select {
			case s.printed <- strings.TrimSuffix(piece, string(rune(endMark))):
			case <-ended:
			}
		}
	}()
	t.Cleanup(func() {
		close(ended)
		w.Close()
		master.Close() // and whatever still runs gets SIGHUP
		_ = cmd.Wait()
	})
	return s
}

// run runs a command in the shell, and gives what it printed.
func (s *shell) run(t *testing.T, command string) string {
	t.Helper()
	s.start(t, command)
	return s.end(t)
}

// start gives the shell a command.
func (s *shell) start(t *testing.T, command string) {
	t.Helper()
	if _, err := s.commands.WriteString(command + "\x00"); err != nil {
		t.Fatal(err)
	}
}

// end waits for the end of the command that was started, and gives what it printed.
func (s *shell) end(t *testing.T) string {
	t.Helper()
	select {
	case out, there := <-s.printed:
		if !there {
			t.Fatalf("the shell ended:\n%s", s.screen.String())
		}
		return out
	case <-time.After(2 * patience):
		t.Fatalf("no end:\n%s", s.screen.String())
	}
	return ""
}

// sees waits until the screen has so many of a text.
func (s *shell) sees(t *testing.T, text string, n int) {
	t.Helper()
	await(t, func(context.Context) error {
		if seen := s.screen.String(); strings.Count(seen, text) < n {
			return fmt.Errorf("no %q on\n%s", text, seen)
		}
		return nil
	})
}

// types presses keys.
func (s *shell) types(t *testing.T, keys string) {
	t.Helper()
	if _, err := s.terminal.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// terminal makes a pseudo terminal of a usual size.
func terminal() (master, slave *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	n := 0
	set := func(fd uintptr) { // and not by master.Fd, after which Close would wait for Read
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err != nil {
			return
		}
		if n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); err == nil {
			err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 160})
		}
	}
	control, e := master.SyscallConn()
	if e == nil {
		e = control.Control(set)
	}
	err = errors.Join(e, err)
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
	}
	return master, slave, err
}

// output is what a program prints, while it does.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
