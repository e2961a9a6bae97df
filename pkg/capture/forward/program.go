// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture/initns"
)

// Exec replaces corepipe by the program of a pattern of kind ToProgram (see Pattern.Args), which finds everything as the kernel gave it to us: the stream
// at descriptor 0, of which nothing may have been read, the pidfd at 3, no environment, the root as working directory. It returns only an error.
//
// Standard output and error are /dev/null, where the kernel leaves them closed: Go's runtime opens them.
func Exec(args []string) error {
	if len(args) == 0 {
		return ErrNotWanted
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("go to the root directory: %w", err)
	}
	// It may have been made non-blocking for deadlines, and that is kept with the pipe, not with the descriptor.
	if err := unix.SetNonblock(0, false); err != nil {
		return fmt.Errorf("make the stream blocking again: %w", err)
	}
	// Ours is high; the kernel starts programs with 0. Where that fails it is killed earlier, which is no reason not to run it.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0)
	return fmt.Errorf("run %q, which had the host's core dumps before: %w", args[0], unix.Exec(args[0], args, nil))
}

// Program is the program of a pattern of kind ToProgram, run from a process that stays, on the host.
type Program struct {
	// Args are from Pattern.Args, expanded with "3" for %F where there is a PIDFD.
	Args []string
	// PIDFD becomes descriptor 3 of the program; nil leaves that closed. It stays the caller's.
	PIDFD *os.File
	// Namespaces are those of the host's first process, see initns.Dir: the program is run in them, all of them but the one for users.
	Namespaces string
}

// Run runs the program with the stream as its standard input and waits for both to end; it closes the stream. An end of ctx kills
// the program. Where the program leaves before the end of the stream, the rest of that is not read.
//
// The program gets an RLIMIT_CORE of 1, as the kernel gives it to those that it starts: a crash of it, or of what it starts, is no dump (see package socket).
func (p Program) Run(ctx context.Context, stream io.ReadCloser) error {
	defer stream.Close()
	if len(p.Args) == 0 {
		return ErrNotWanted
	}
	in, out, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe for the host's own handler: %w", err)
	}
	defer in.Close()
	defer out.Close()
	cmd := exec.CommandContext(ctx, p.Args[0])
	cmd.Path, cmd.Args, cmd.Err = p.Args[0], p.Args, nil
	cmd.Dir, cmd.Env, cmd.Stdin = "/", []string{}, in
	if p.PIDFD != nil {
		cmd.ExtraFiles = []*os.File{p.PIDFD} // descriptor 3
	}
	err = initns.DoAll(p.Namespaces, func() error {
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("run the host's own handler: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	limit := unix.Rlimit{Cur: 1, Max: 1}
	_ = unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_CORE, &limit, nil) // it may have ended already
	in.Close()
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(out, stream)
		copied <- errors.Join(err, out.Close())
	}()
	ended := cmd.Wait()
	stream.Close() // ends a copy that waits for bytes nobody wants
	err = <-copied
	if ended != nil {
		return fmt.Errorf("the host's own handler %q: %w", p.Args[0], ended)
	}
	if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("feed the host's own handler %q: %w", p.Args[0], err)
	}
	return nil
}
