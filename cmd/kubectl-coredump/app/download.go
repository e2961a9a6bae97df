// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/fetch"
	"example.io/coredump/pkg/registry/table"
	"example.io/coredump/pkg/storage"
)

// downloader fetches dumps.
type downloader struct {
	*session
	keep    bool
	workers int
	giveUp  time.Duration
}

func (d *downloader) options(m *fetch.Meter) fetch.Options {
	return fetch.Options{KeepCompressed: d.keep, Workers: d.workers, GiveUp: d.giveUp, Meter: m}
}

const downloadLong = `download fetches a core, decompresses it on the way and compares it with the SHA-256 of its record.

It is fetched in pieces of a few seconds, several at a time. Whatever interrupts that, run the same command
again, also tomorrow: it goes on where it was. Until a core is complete it is called <file>.part, and <file>.state
beside it says what is there; remove both to begin anew. Files are called <container>-<executable>-<id>.core, are for
you alone, and never replace another file. Pages of zeros take no room on the disk.

With the name of a pod it is the newest dump of that pod, or as many of the newest as --latest says.

A core holds every secret of the process. Whoever controlled the process controls what is in it.`

func (a *App) downloadCommand() *cobra.Command {
	d := downloader{}
	c := choice{}
	var output string
	cmd := &cobra.Command{
		Use:   "download NAME|POD",
		Short: "Download core dumps",
		Long:  downloadLong,
		Example: "  kubectl coredump download checkout.app.20261121t041500z-0123456789 -n shop\n" +
			"  kubectl coredump download checkout -n shop -c app --latest=3 -o cores\n" +
			"  kubectl coredump download checkout -n shop -o - | sha256sum",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeDumps,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			ctx := cmd.Context()
			if c.latest < 0 || d.workers < 1 || d.workers > 64 || d.giveUp <= 0 {
				return usage("--latest must be 0 or more, --parallel 1 to 64, --give-up-after more than 0s")
			}
			if d.session, err = a.connect(); err != nil {
				return err
			}
			dumps, err := d.find(ctx, args[0], c)
			if err != nil {
				return err
			}
			if err := d.need(ctx, d.namespace, mayDownload.of(only(dumps))); err != nil {
				return err
			}
			if output == "-" {
				if len(dumps) != 1 {
					return usage("--output=- writes one core: there are %d", len(dumps))
				}
				return d.stream(ctx, &dumps[0], a.Out)
			}
			for i := range dumps {
				file, err := d.file(ctx, &dumps[i], output)
				if err != nil {
					return err
				}
				fmt.Fprintln(a.Out, file)
			}
			return nil
		},
	}
	f := cmd.Flags()
	c.addFlags(f)
	f.IntVar(&c.latest, "latest", 1, "as many of the newest dumps of the pod; 0 for all")
	f.StringVarP(&output, "output", "o", ".", "directory for the files, made if it is not there; - writes the core to the standard output, in order and over one connection")
	f.BoolVar(&d.keep, "keep-compressed", false, "keep .core.zst as it is stored; zstd -d decompresses it. It is checked all the same")
	f.IntVar(&d.workers, "parallel", 4, "pieces that are fetched at a time")
	f.DurationVar(&d.giveUp, "give-up-after", 5*time.Minute, "end when nothing has arrived for so long")
	_ = cmd.MarkFlagDirname("output")
	return cmd
}

// only is the name of the only dump, or empty.
func only(dumps []v1alpha1.CoreDump) string {
	if len(dumps) == 1 {
		return dumps[0].Name
	}
	return ""
}

// fileName makes the name of a file. The container and the id are of the alphabet of Kubernetes, by the name of the dump; the name of the executable is
// anybody's, and is reduced.
func fileName(d *v1alpha1.CoreDump) (string, error) {
	key, err := storage.ParseName(d.Namespace, d.Name)
	if err != nil {
		return "", err
	}
	return key.Container + "-" + word(path.Base(d.Spec.Process.Executable), 64) + "-" + key.ID, nil
}

// what says what is to be fetched of a dump, and in which format. What is stored as zstd comes so; anything else is the server's to decompress.
func what(d *v1alpha1.CoreDump) (fetch.Dump, string) {
	w := fetch.Dump{ID: d.Namespace + "/" + d.Name, Size: d.Status.Size, SHA256: d.Status.SHA256, ObjectSize: d.Status.Size}
	if d.Status.Codec == string(storage.CodecZstd) {
		w.Compressed, w.ObjectSize = true, d.Status.StoredSize
		return w, "core.zst"
	}
	return w, "core"
}

// file fetches a dump into a directory, and returns the path of the file.
func (d *downloader) file(ctx context.Context, dump *v1alpha1.CoreDump, dir string) (string, error) {
	name, err := fileName(dump)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	meter := &fetch.Meter{}
	o := d.options(meter)
	o.Name = name
	w, format := what(dump)
	object, err := d.object(d.namespace, dump.Name, format)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(d.app.ErrOut, "%s: %s, %s as stored\n", dump.Name, table.Size(dump.Status.Size), table.Size(dump.Status.StoredSize))
	end := d.app.watchProgress(meter)
	file, err := fetch.File(ctx, object, w, root, o)
	end()
	if err != nil {
		return "", d.explain(ctx, err, dir, fetch.Kept(root, name))
	}
	return filepath.Join(dir, file), nil
}

// stream writes a core to out.
func (d *downloader) stream(ctx context.Context, dump *v1alpha1.CoreDump, out io.Writer) error {
	if d.app.Terminal(out) {
		return usage("--output=- writes the core, and the standard output is a terminal")
	}
	w, format := what(dump)
	object, err := d.object(d.namespace, dump.Name, format)
	if err != nil {
		return err
	}
	meter := &fetch.Meter{}
	end := d.app.watchProgress(meter)
	err = fetch.Stream(ctx, object, w, out, d.options(meter))
	end()
	return d.explain(ctx, err, "", false)
}

// explain says what to do about an error. Kept tells whether there is something in dir to go on with.
func (d *downloader) explain(ctx context.Context, err error, dir string, kept bool) error {
	var status *fetch.StatusError
	switch {
	case errors.As(err, &status) && status.Code == 403:
		return &missingRight{right: mayDownload, namespace: d.namespace, user: d.whoami(ctx)}
	case errors.Is(err, fetch.ErrExists):
		return fmt.Errorf("%w in %s, which is not this core: move it away, or use another directory (-o)", err, dir)
	case errors.Is(err, fetch.ErrBusy):
		return fmt.Errorf("%w: another kubectl coredump fetches it into %s", err, dir)
	case kept && (errors.Is(err, fetch.ErrIncomplete) || errors.Is(err, fetch.ErrNoRoom)):
		return fmt.Errorf("%w\nWhat has arrived is kept in %s: the same command goes on with it", err, dir)
	case errors.Is(err, fetch.ErrWrong), errors.Is(err, fetch.ErrChanged):
		return fmt.Errorf("%w\nNothing of it is kept. Tell whoever runs the object store", err)
	}
	return err
}
