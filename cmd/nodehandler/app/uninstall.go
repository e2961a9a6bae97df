// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"example.io/coredump/pkg/dumpdir"
)

const uninstallLong = `uninstall gives the host back as it was before nodehandler ran with --capture=pipe or socket: the kernel's
settings, without corepipe and what it needs. It may be run while nothing else of coredump runs on the node, and
again after it was interrupted. Dumps that wait in DIRECTORY stay, unless --purge is given; it says how many.`

// newUninstall makes the command that undoes what the program did to the host.
func newUninstall() *cobra.Command {
	o := newKernelOptions()
	purge := false
	cmd := &cobra.Command{
		Use:   "uninstall [flags] DIRECTORY",
		Short: "Give the host back as it was",
		Long:  uninstallLong,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.uninstall(cmd.OutOrStdout(), args[0], purge)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.hostDir, "host-dir", o.hostDir, "As it was given to nodehandler.")
	fs.StringVar(&o.procSys, "proc-sys", o.procSys, "As it was given to nodehandler.")
	fs.StringVar(&o.socket, "core-socket", o.socket, "As it was given to nodehandler.")
	fs.BoolVar(&purge, "purge", purge, "Remove dumps that wait in DIRECTORY or were set aside there, too.")
	return cmd
}

func (o *kernelOptions) uninstall(out io.Writer, dir string, purge bool) error {
	report, err := o.host().Uninstall()
	if err != nil {
		return err
	}
	for knob, value := range report.Written {
		fmt.Fprintf(out, "%s is %q again\n", knob, value)
	}
	if err := removeEmpty(o.socket, filepath.Dir(o.socket)); err != nil {
		return err
	}
	if purge {
		for _, name := range []string{dumpdir.SpoolDir, dumpdir.AsideDir} {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
		return removeEmpty(dir)
	}
	left, err := sweep(dir)
	if err != nil {
		return err
	}
	if left > 0 {
		fmt.Fprintf(out, "%d dumps stay in %s: start nodehandler again to upload them, or remove them by --purge\n", left, dir)
	}
	return nil
}

// sweep removes from the dump directory what is ours and holds no dump, and gives the number of dumps that are left.
func sweep(dir string) (left int, err error) {
	spool := filepath.Join(dir, dumpdir.SpoolDir)
	for _, state := range []string{"incoming", "ready", "aside"} {
		entries, err := os.ReadDir(filepath.Join(spool, state))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return left, err
		}
		left += len(entries)
	}
	if left == 0 {
		if err := os.RemoveAll(spool); err != nil {
			return left, err
		}
	}
	return left, removeEmpty(filepath.Join(dir, dumpdir.AsideDir), dir)
}

// removeEmpty removes files, and directories where nothing is in them. A directory that is a mount point stays, also in a
// read-only root file system (EROFS).
func removeEmpty(names ...string) error {
	for _, name := range names {
		err := os.Remove(name)
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.EROFS):
		default:
			return err
		}
	}
	return nil
}
