// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"example.io/coredump/pkg/capture/host"
	"example.io/coredump/pkg/dumpdir"
)

const uninstallLong = `uninstall gives the host back as it was before nodehandler ran with --capture=pipe or socket: the kernel's
settings, without corepipe and what it needs. It may be run while nothing else of coredump runs on the node, and
again after it was interrupted. Dumps that wait in DIRECTORY stay, unless --purge is given; it says how many.`

// uninstallation is what uninstall is told beside the flags that nodehandler has, too.
type uninstallation struct {
	kernelOptions
	// root is where the host's directories are seen; the paths in the options are those on the host.
	root        string
	purge, wait bool
}

// newUninstall makes the command that undoes what the program did to the host. ctx ends the waiting.
func newUninstall(ctx context.Context) *cobra.Command {
	o := uninstallation{kernelOptions: newKernelOptions(), root: "/"}
	cmd := &cobra.Command{
		Use:   "uninstall [flags] DIRECTORY",
		Short: "Give the host back as it was",
		Long:  uninstallLong,
		Args: func(_ *cobra.Command, args []string) error {
			if o.wait != (len(args) == 0) || len(args) > 1 {
				return errors.New("there must be one argument, the directory of the dumps, and none with --wait")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.wait {
				<-ctx.Done()
				return nil
			}
			return o.run(cmd.OutOrStdout(), args[0])
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.hostDir, "host-dir", o.hostDir, "As it was given to nodehandler.")
	fs.StringVar(&o.procSys, "proc-sys", o.procSys, "As it was given to nodehandler.")
	fs.StringVar(&o.socket, "core-socket", o.socket, "As it was given to nodehandler.")
	fs.StringVar(&o.root, "host-root", o.root, "Where DIRECTORY, --host-dir and --core-socket of the host are seen here. Directories that are empty are removed where they are not mount points, so mount those in which they are.")
	fs.BoolVar(&o.wait, "wait", o.wait, "Do nothing but wait to be ended: for the container of a DaemonSet whose init container has done the work.")
	fs.BoolVar(&o.purge, "purge", o.purge, "Remove dumps that wait in DIRECTORY or were set aside there, too.")
	return cmd
}

func (o *uninstallation) run(out io.Writer, dir string) error {
	h := o.host()
	h.Dir = filepath.Join(o.root, o.hostDir)
	report, err := h.Uninstall()
	if err != nil {
		return err
	}
	for _, knob := range host.Knobs {
		if value, ok := report.Written[knob]; ok {
			fmt.Fprintf(out, "%s is %q again\n", knob, value)
		}
	}
	socket := filepath.Join(o.root, o.socket)
	if err := removeEmpty(socket, filepath.Dir(socket)); err != nil {
		return err
	}
	here := filepath.Join(o.root, dir)
	if o.purge {
		for _, name := range []string{dumpdir.SpoolDir, dumpdir.AsideDir} {
			if err := os.RemoveAll(filepath.Join(here, name)); err != nil {
				return err
			}
		}
	}
	left, err := sweep(here)
	if err != nil {
		return err
	}
	if left > 0 {
		fmt.Fprintf(out, "%d dumps stay in %s: start nodehandler again to upload them, or remove them by --purge\n", left, dir)
	}
	for _, d := range []string{o.hostDir, dir} {
		if err := o.sayWhatStays(out, d); err != nil {
			return err
		}
	}
	return nil
}

// sayWhatStays names a directory of the host that is left, and the first of what is in it.
func (o *uninstallation) sayWhatStays(out io.Writer, dir string) error {
	const most = 5
	entries, err := os.ReadDir(filepath.Join(o.root, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var names []string
	for _, e := range entries[:min(len(entries), most)] {
		names = append(names, strconv.QuoteToASCII(e.Name()))
	}
	if n := len(entries) - most; n > 0 {
		names = append(names, fmt.Sprintf("%d more", n))
	}
	if len(names) == 0 {
		names = []string{"nothing: it is a mount point here"}
	}
	fmt.Fprintf(out, "%s stays, with %s\n", dir, strings.Join(names, ", "))
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
