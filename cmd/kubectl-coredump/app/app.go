// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package app is kubectl coredump: its command line and what it does.
package app

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // whatever a kubeconfig logs in with
	"k8s.io/component-base/version"
)

const long = `kubectl coredump lists the core dumps of your pods, downloads them and opens them in a debugger.

It needs no access to nodes, and works when the pod is long gone. Who may list is said by the ClusterRole
coredump-viewer (part of view), who may download by coredump-downloader.

Exit codes:
  0    done
  1    something else failed; the message says what
  2    the command line is wrong
  3    you lack a right; the message says which role gives it
  4    there is no such dump
  5    not complete: the server cannot be reached, or broke off; run the same command again, it goes on
  6    what the server has is not what the record says, or changed meanwhile; nothing is kept
  7    no room on the disk; make some and run the same command again, it goes on
  130  interrupted; run the same command again, it goes on
debug ends with the debugger's own exit code once that runs.`

// App is the program with what it takes from its surroundings.
type App struct {
	genericiooptions.IOStreams
	Config *genericclioptions.ConfigFlags
	// Now is the local clock, for ages and for --since.
	Now func() time.Time
	// Terminal tells whether w is one.
	Terminal func(w io.Writer) bool
	// Exec runs another program. Its error may be an *exec.ExitError.
	Exec func(ctx context.Context, c Program) error
	// Poll is how often a list is watched by asking again, where the server has no watch.
	Poll time.Duration
	// Report is how often a download tells how far it is, where it does not write to a terminal.
	Report time.Duration
}

// New gives the program as people run it.
func New() *App {
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	return &App{
		IOStreams: streams,
		Config:    configFlags(),
		Now:       time.Now,
		Terminal:  isTerminal,
		Exec:      execute,
		Poll:      5 * time.Second,
		Report:    10 * time.Second,
	}
}

// configFlags are those of kubectl, without what nothing here uses.
func configFlags() *genericclioptions.ConfigFlags {
	c := genericclioptions.NewConfigFlags(true)
	c.CacheDir = nil
	return c
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Run runs the program with the arguments and returns its exit code.
func (a *App) Run(ctx context.Context, args []string) int {
	cmd := a.Command()
	cmd.SetArgs(args)
	ran := false
	cmd.PersistentPreRun = func(*cobra.Command, []string) { ran = true }
	err := cmd.ExecuteContext(ctx)
	return a.tell(ctx, err, ran)
}

// Command makes the command.
func (a *App) Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "coredump",
		Short:         "List, download and debug core dumps",
		Long:          long,
		Version:       version.Get().GitVersion,
		SilenceUsage:  true,
		SilenceErrors: true,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl coredump"},
		Args:          cobra.NoArgs,
		// kubectl completes its plugins by kubectl_complete-coredump, which asks the hidden command __complete.
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	cmd.SetIn(a.In)
	cmd.SetOut(a.Out)
	cmd.SetErr(a.ErrOut)
	a.Config.AddFlags(cmd.PersistentFlags())
	for flag, complete := range map[string]cobra.CompletionFunc{"namespace": a.completeNamespaces, "context": cobra.NoFileCompletions} {
		_ = cmd.RegisterFlagCompletionFunc(flag, complete)
	}
	cmd.AddCommand(a.listCommand(), a.infoCommand(), a.downloadCommand(), a.debugCommand())
	return cmd
}
