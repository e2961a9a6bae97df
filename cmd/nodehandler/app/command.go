// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package app is the program nodehandler: its command line, and what it is put together from.
package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register" // --logging-format=json
	"k8s.io/component-base/version/verflag"
)

const long = `nodehandler takes the core dumps of a node, finds out whose they are, and uploads them to the object store. What is
on the node is deleted only after the store has confirmed it. What fails is tried again for as long as it takes; what
is there when the program starts is uploaded too.

With --capture=pipe (the default) it puts a small program, corepipe, on the host and has the kernel give it every dump;
it writes them to DIRECTORY/.spool, also while nodehandler is down. With --capture=socket the kernel gives them to
nodehandler. Both change the host's core_pattern, and "nodehandler uninstall" gives that back. With --capture=file, and
beside the others, core files are taken that somebody else writes into DIRECTORY:

A core is <namespace>/<pod>/<container>/.../<name> below DIRECTORY, the name as --core-name-template
says, or lies in DIRECTORY itself with the defaults for what is missing; .gz and .zst are taken as they are.
It is taken when nobody has it open for writing and it is as long as its ELF header promises, or has not
changed for --settle; see also there. A name of the template that is no core goes to DIRECTORY/.aside and is
kept; links, FIFOs, devices and other names stay where they are. One node handler at a time has a directory.

Memory: about 40 MiB, and for each busy worker 6 MiB for each of --compression-workers and what --store says
below, plus a quarter. With the defaults and S3 that is under 100 MiB while one large core is uploaded, and
about 240 MiB while four are: --workers sets the bound.`

// columns is the width of --help.
const columns = 110

// NewCommand makes the command. It ends, after --shutdown-grace at the latest, when ctx does.
func NewCommand(ctx context.Context) *cobra.Command {
	o := newOptions()
	cmd := &cobra.Command{
		Use:   "nodehandler --store=URL [flags] DIRECTORY",
		Short: "Upload the core dumps of a node to the object store",
		Long:  long,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("%d arguments: there must be one, the directory to watch", len(args))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			verflag.PrintAndExitIfRequested()
			c, err := o.validate(args)
			if err != nil {
				return err
			}
			if err := logsapi.ValidateAndApply(o.logs, nil); err != nil {
				return err
			}
			if err := c.run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		},
	}
	flags := o.flags()
	for _, fs := range flags.FlagSets {
		cmd.Flags().AddFlagSet(fs)
	}
	cliflag.SetUsageAndHelpFunc(cmd, flags, columns)
	cmd.AddCommand(newUninstall(ctx))
	return cmd
}
