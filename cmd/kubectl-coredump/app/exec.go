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
)

// Program is another program.
type Program struct {
	// Args are its name and its arguments.
	Args []string
	// In, Out and Err are its streams.
	In       io.Reader
	Out, Err io.Writer
	// Interactive programs get Ctrl-C themselves; the end of the context does not end them.
	Interactive bool
}

// execute runs a program. Its error is an *exec.ExitError where the program failed.
func execute(ctx context.Context, p Program) error {
	if p.Interactive {
		ctx = context.WithoutCancel(ctx)
		// Taken and dropped: ignoring them would make the program ignore them, too.
		interrupts := make(chan os.Signal, 1)
		signal.Notify(interrupts, os.Interrupt)
		defer signal.Stop(interrupts)
	}
	cmd := exec.CommandContext(ctx, p.Args[0], p.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.In, p.Out, p.Err
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
