// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package app is the program gc: its command line and what it does.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register" // --logging-format=json
	"k8s.io/component-base/version"

	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/buckets"
)

// The exit codes. They are part of the interface; --help lists them.
const (
	exitDone        = 0
	exitIncomplete  = 1
	exitUsage       = 2
	exitUnavailable = 3
	exitStopped     = 4
)

const long = `gc removes old core dumps from the object store and ends. Run it from a CronJob, one at a time.

Every rule is optional; 0 turns it off. What one rule takes, the next one does not count. Their order:
leftovers, dumps larger than a whole budget, age, number per container, namespaces that are gone,
bytes per namespace, bytes in all. Ages count from the crash, or from when a dump was stored if it says
that it is from later than that, by the store's clock. Keys that are not of the form
<namespace>/<pod>/<container>/<id>.json or .core[.zst|.gz] are never touched.

Durations are written like 30d, 12h or 1d12h (m are minutes) and at least 1h, sizes like 500Mi or 20Gi.

Exit codes:
  0  done
  1  done in part: something could not be removed, a rule had to be skipped, or metrics could not be delivered
  2  the command line or the configuration file is wrong; nothing was done
  3  the store is not available, or does not let gc in; the log says what had been removed by then
  4  stopped by a signal or by --timeout; the next run goes on`

// columns is the width of --help.
const columns = 110

// App is the program with what it takes from its surroundings.
type App struct {
	Out, Err   io.Writer
	OpenBucket func(ctx context.Context, url string) (storage.Bucket, error)
	// Client gives a client of the API server; an empty kubeconfig means the cluster that the program runs in.
	Client func(kubeconfig string) (kubernetes.Interface, error)
	// Now is the local clock; it is only asked where the store does not tell its own time.
	Now func() time.Time
}

// New gives the program as it runs in a cluster.
func New() *App {
	return &App{Out: os.Stdout, Err: os.Stderr, OpenBucket: buckets.Open, Client: newClient, Now: time.Now}
}

func newClient(kubeconfig string) (kubernetes.Interface, error) {
	var cfg *rest.Config
	var err error
	if kubeconfig == "" {
		cfg, err = rest.InClusterConfig()
	} else {
		cfg, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, err
	}
	cfg.UserAgent = "coredump-gc"
	return kubernetes.NewForConfig(cfg)
}

// Run runs the program with the arguments and returns its exit code. It may be called once in a process, as logging can be set up once.
func (a *App) Run(ctx context.Context, args []string) int {
	code := exitDone
	cmd := a.Command(&code)
	cmd.SetArgs(args)
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(a.Err, "%v\nSee gc --help.\n", err)
		return exitUsage
	}
	return code
}

// Command makes the command. It sets code where it came to run, and returns an error where the command line is wrong.
func (a *App) Command(code *int) *cobra.Command {
	opts := newOptions()
	cmd := &cobra.Command{
		Use:     "gc --store=URL [rules]",
		Short:   "Remove old core dumps from the object store",
		Long:    long + "\n\nThe store. " + buckets.Usage,
		Version: version.Get().GitVersion,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unexpected argument %q: there are only flags", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			cfg, err := opts.config()
			bucket, openErr := a.OpenBucket(ctx, opts.store)
			if errors.Is(openErr, storage.ErrInvalid) {
				err = errors.Join(err, fmt.Errorf("--store: %w", openErr))
			}
			if err != nil {
				return err
			}
			if err := logsapi.ValidateAndApply(opts.logs, nil); err != nil {
				return err
			}
			defer logs.FlushLogs()
			*code = a.run(ctx, cfg, bucket, openErr)
			return nil
		},
		SilenceUsage:          true,
		SilenceErrors:         true,
		DisableFlagsInUseLine: true,
	}
	flags := opts.flags()
	for _, fs := range flags.FlagSets {
		cmd.Flags().AddFlagSet(fs)
	}
	cliflag.SetUsageAndHelpFunc(cmd, flags, columns)
	cmd.SetGlobalNormalizationFunc(cliflag.WordSepNormalizeFunc)
	cmd.SetOut(a.Out)
	cmd.SetErr(a.Err)
	return cmd
}
