// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package app is the program apiserver: its command line, and what it is put together from.
package app

import (
	"context"

	"github.com/spf13/cobra"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register" // --logging-format=json
	"k8s.io/component-base/version"
)

const long = `apiserver serves the API group coredump.example.io/v1alpha1 behind kube-apiserver's aggregation layer:
the core dumps in the object store as coredumps and coredumpendpoints, and their bytes as the
subresources dump and proxy. Who may do what is asked of kube-apiserver (RBAC).

It keeps nothing itself: any number of replicas may run. It needs --store and, outside of a
cluster, the three kubeconfigs.`

// columns is the width of --help, enough for the lines of buckets.Usage.
const columns = 160

// NewCommand makes the command. The server stops when ctx ends.
func NewCommand(ctx context.Context) *cobra.Command {
	o := newOptions()
	cmd := &cobra.Command{
		Use:     "apiserver --store=URL [flags]",
		Short:   "Serve core dumps through the Kubernetes API",
		Long:    long,
		Version: version.Get().GitVersion, // for --version
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			if err := logsapi.ValidateAndApply(o.logs, nil); err != nil {
				return err
			}
			return o.run(ctx)
		},
	}
	flags := o.flags()
	for _, fs := range flags.FlagSets {
		cmd.Flags().AddFlagSet(fs)
	}
	cliflag.SetUsageAndHelpFunc(cmd, flags, columns)
	return cmd
}
