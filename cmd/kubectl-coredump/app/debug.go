// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// debuggers make the command line that opens a core: options, then files. root is where the files of the crashed container are, empty for here; executable may be
// empty, but not for delve. None of them runs commands of a startup file, and gdb loads no script that a core or what it names brings along.
var debuggers = map[string]func(root, executable, core string) (options, files []string){
	"gdb": func(root, executable, core string) (options, files []string) {
		options = []string{"gdb", "-nx", "-iex", "set auto-load off"}
		if root != "" {
			options = append(options, "-iex", "set sysroot "+root)
		}
		if executable == "" {
			return options, []string{"-core", core}
		}
		return options, []string{executable, core}
	},
	"lldb": func(root, executable, core string) (options, files []string) {
		options = []string{"lldb", "--no-lldbinit"}
		if root != "" {
			// By the platform of this machine lldb would take libraries from its own image.
			options = append(options, "-O", "platform select --sysroot "+root+" remote-linux")
		}
		files = []string{"--core", core}
		if executable != "" {
			files = append(files, executable)
		}
		return options, files
	},
	"delve": func(_, executable, core string) (options, files []string) {
		// Without it, dlv takes no commands from a pipe, as the others do.
		return []string{"dlv", "core", "--allow-non-terminal-interactive"}, []string{executable, core}
	},
}

// commandLine is that of a debugger, with arguments of the user behind the options that make it safe.
func commandLine(debugger, root, executable, core string, extra []string) []string {
	options, files := debuggers[debugger](root, executable, core)
	return slices.Concat(options, extra, files)
}

// debugOptions are what debug is told.
type debugOptions struct {
	debugger   string
	executable string // here
	dir        string
	image      string // of the debugger
	program    string // in the crashed image
	root       string
	hold       []string
	secrets    []string // that images are pulled with
	wait       time.Duration
	extra      []string // for the debugger
}

const debugLong = `debug opens a core in a debugger.

With --executable it does so here: the core is downloaded into --dir, as download does it, and stays there. The
executable should be the one that crashed; where its build id is another one, debug says so.

Otherwise it does so in the cluster, in a pod of the namespace that is made from the image of the crashed container, so
that executable and libraries are those of the crash, with a debugger image (--debugger-image) beside it. The image is a
volume of the debugger's container where the cluster can do that (--share=image), so that nothing of it runs; else it is a second
container that sleeps, in the same process namespace (--share=process). The core is streamed in through your own
connection, with your own rights. The pod is removed in the end, and ends by itself after 8 hours. You need the rights to
create, get and delete pods and to exec into them. The debugger image must have the debugger, sh, cat, sleep, sha256sum,
and for --share=process tr and grep.

What is behind -- is passed to the debugger.

A core is a file of whoever controlled the process, and debuggers have bugs: open those of strangers in the cluster.`

func (a *App) debugCommand() *cobra.Command {
	o := debugOptions{}
	c := choice{latest: 1}
	cmd := &cobra.Command{
		Use:   "debug NAME|POD [-- DEBUGGER-ARGUMENTS]",
		Short: "Open a core dump in a debugger",
		Long:  debugLong,
		Example: "  kubectl coredump debug checkout -n shop --executable=./checkout\n" +
			"  kubectl coredump debug checkout -n shop --debugger-image=registry.example.io/gdb -- -batch -ex 'thread apply all bt'",
		ValidArgsFunction: a.completeDumps,
		Args: func(cmd *cobra.Command, args []string) error {
			n := len(args)
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				n = dash
			}
			if n != 1 {
				return fmt.Errorf("debug takes the name of a dump or of a pod, got %d arguments", n)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if debuggers[o.debugger] == nil {
				return usage("--debugger is %q: it must be one of %s", o.debugger, strings.Join(sortedKeys(debuggers), ", "))
			}
			o.extra = args[1:]
			return a.debug(cmd.Context(), args[0], c, o)
		},
	}
	f := cmd.Flags()
	c.addFlags(f)
	f.StringVar(&o.debugger, "debugger", "gdb", "gdb, lldb or delve")
	f.StringVar(&o.executable, "executable", "", "the executable that crashed, a file here; debug here")
	f.StringVar(&o.dir, "dir", ".", "with --executable: directory for the core")
	f.StringVar(&o.image, "debugger-image", os.Getenv("COREDUMP_DEBUGGER_IMAGE"), "image that has the debugger; debug in the cluster. The default is $COREDUMP_DEBUGGER_IMAGE")
	f.Lookup("debugger-image").DefValue = ""
	f.StringVar(&o.program, "program", "", "path of the executable in the crashed image, where the record does not know it")
	f.StringVar(&o.root, "share", "auto", "how the debugger sees the crashed image: image (a volume), process (a second container), or auto")
	f.StringSliceVar(&o.hold, "hold-command", []string{"sleep", "infinity"}, "with --share=process: what keeps the crashed image running")
	f.StringSliceVar(&o.secrets, "image-pull-secret", nil, "secrets of the namespace to pull images with; those of the crashed pod, while it exists, are used anyway")
	f.DurationVar(&o.wait, "wait", 5*time.Minute, "how long to wait until the pod runs")
	_ = cmd.RegisterFlagCompletionFunc("debugger", cobra.FixedCompletions(sortedKeys(debuggers), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("share", cobra.FixedCompletions([]string{"auto", "image", "process"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *App) debug(ctx context.Context, arg string, c choice, o debugOptions) error {
	switch {
	case (o.executable == "") == (o.image == ""):
		return usage("either --executable, to debug here, or --debugger-image, to debug in the cluster")
	case !slices.Contains([]string{"auto", "image", "process"}, o.root):
		return usage("--share is %q: it must be image, process or auto", o.root)
	}
	s, err := a.connect()
	if err != nil {
		return err
	}
	dumps, err := s.find(ctx, arg, c)
	if err != nil {
		return err
	}
	d := &dumps[0]
	if err := s.need(ctx, s.namespace, mayDownload.of(d.Name)); err != nil {
		return err
	}
	load := &downloader{session: s} // with the defaults of fetch.Options
	if o.image != "" {
		return load.debugInPod(ctx, d, o)
	}
	return load.debugHere(ctx, d, o)
}

func (d *downloader) debugHere(ctx context.Context, dump *v1alpha1.CoreDump, o debugOptions) error {
	executable, err := filepath.Abs(o.executable) // which then begins with no dash
	if err == nil {
		_, err = os.Stat(executable)
	}
	if err != nil {
		return usage("--executable: %w", err)
	}
	if s := dump.Status.Summary; s != nil && s.BuildID != "" {
		if id := buildID(executable); id != "" && id != s.BuildID {
			fmt.Fprintf(d.app.ErrOut, "warning: %s has the build id %s, what crashed has %s: symbols will be wrong\n", o.executable, id, line(s.BuildID, 64))
		}
	}
	core, err := d.file(ctx, dump, o.dir)
	if err != nil {
		return err
	}
	if core, err = filepath.Abs(core); err != nil {
		return err
	}
	fmt.Fprintln(d.app.ErrOut, "warning: whoever controlled the process controls what is in its core, and debuggers have bugs. Of strangers: debug in the cluster (--debugger-image).")
	args := commandLine(o.debugger, "", executable, core, o.extra)
	return ended(d.app.Exec(ctx, Program{Args: args, In: d.app.In, Out: d.app.Out, Err: d.app.ErrOut, Interactive: true}))
}

// buildID is the GNU build id of an executable, in hex; empty where it has none.
func buildID(path string) string {
	f, err := elf.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	section := f.Section(".note.gnu.build-id")
	if section == nil || section.Size > 1<<10 {
		return ""
	}
	data, err := section.Data()
	if err != nil || len(data) < 16 { // namesz, descsz, type, "GNU\0"
		return ""
	}
	n := int(f.ByteOrder.Uint32(data[4:]))
	if n < 0 || n > len(data)-16 {
		return ""
	}
	return hex.EncodeToString(data[16 : 16+n])
}
