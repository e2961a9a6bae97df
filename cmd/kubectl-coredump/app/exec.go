// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// Program is another program.
type Program struct {
	// Args are its name and its arguments.
	Args []string
	// In, Out and Err are its streams.
	In       io.Reader
	Out, Err io.Writer
	// Interactive programs get Ctrl-C themselves, and that does not end them. What else ends this program (Ends) ends them.
	Interactive bool
}

// Ends are the signals that end the program, and let it clean up, beside Ctrl-C. Closing a terminal is one, unless nohup(1) says that it is none.
func Ends() []os.Signal {
	if signal.Ignored(syscall.SIGHUP) {
		return []os.Signal{syscall.SIGTERM}
	}
	return []os.Signal{syscall.SIGTERM, syscall.SIGHUP}
}

// endTime is how long a program has to end when it is told to. kubectl gives the terminal back meanwhile.
const endTime = 5 * time.Second

// execute runs a program. Its error is an *exec.ExitError where the program failed.
func execute(ctx context.Context, p Program) error {
	if p.Interactive {
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(context.WithoutCancel(ctx), Ends()...)
		defer stop()
		// Taken and dropped: ignoring them would make the program ignore them, too.
		interrupts := make(chan os.Signal, 1)
		signal.Notify(interrupts, os.Interrupt)
		defer signal.Stop(interrupts)
	}
	cmd := exec.CommandContext(ctx, p.Args[0], p.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.In, p.Out, p.Err
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(syscall.SIGTERM) }, endTime
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "DEBUGINFOD_URLS=") { // a debugger that opens a hostile core asks no servers for what that names
			cmd.Env = append(cmd.Env, e)
		}
	}
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%s is not installed", p.Args[0])
	}
	return err
}

// debuggerEnded is the end of a debugger that was not 0.
type debuggerEnded struct{ code int }

func (e *debuggerEnded) Error() string { return fmt.Sprintf("the debugger ended with %d", e.code) }

// ended makes of the error of a debugger what the exit code follows from.
func ended(err error) error {
	var e *exec.ExitError
	if errors.As(err, &e) && e.ExitCode() > 0 {
		return &debuggerEnded{e.ExitCode()}
	}
	return err
}
