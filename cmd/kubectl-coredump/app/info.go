// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/table"
)

func (a *App) infoCommand() *cobra.Command {
	var c choice
	var output string
	cmd := &cobra.Command{
		Use:               "info NAME|POD",
		Aliases:           []string{"describe", "show"},
		Short:             "Tell what is known of a crash",
		Long:              "info tells who crashed, where in the code, and what is stored. With the name of a pod it tells of the newest dump of that pod.",
		Example:           "  kubectl coredump info checkout.app.20261121t041500z-0123456789 -n shop\n  kubectl coredump info checkout -n shop",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeDumps,
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "" && output != "json" && output != "yaml" {
				return usage("--output is %q: it must be json or yaml", output)
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			c.latest = 1
			dumps, err := s.find(cmd.Context(), args[0], c)
			if err != nil {
				return err
			}
			d := &dumps[0]
			if output != "" {
				d.APIVersion, d.Kind = v1alpha1.SchemeGroupVersion.String(), "CoreDump"
				return marshal(a.Out, d, output)
			}
			describe(a.Out, d, a.Now())
			return nil
		},
	}
	c.addFlags(cmd.Flags())
	cmd.Flags().StringVarP(&output, "output", "o", "", "json or yaml")
	return cmd
}

// report writes facts in two columns.
type report struct{ w io.Writer }

func (r report) title(s string) { fmt.Fprintf(r.w, "\n%s\n", s) }

// fact writes a fact that is known. The value may be anybody's.
func (r report) fact(name, value string) {
	if value != "" {
		fmt.Fprintf(r.w, "  %-13s %s\n", text(name)+":", line(value, 512))
	}
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// describe writes all that is known of a dump.
func describe(w io.Writer, d *v1alpha1.CoreDump, now time.Time) {
	r := report{w}
	p, c, st := d.Spec.Process, d.Spec.Capture, d.Status
	fmt.Fprintf(w, "%s\n", text(d.Name))
	if st.Summary != nil && st.Summary.Text != "" {
		fmt.Fprintf(w, "%s\n", line(st.Summary.Text, 1024))
	}

	r.title("Who")
	r.fact("Namespace", d.Namespace)
	r.fact("Pod", d.Spec.PodName+unless("", " (UID ", d.Spec.PodUID, ")"))
	r.fact("Container", d.Spec.ContainerName)
	r.fact("Image", d.Spec.Image)
	if d.Spec.ImageID != d.Spec.Image {
		r.fact("Image ID", d.Spec.ImageID)
	}
	if o := d.Spec.Owner; o != nil {
		r.fact("Owner", o.Kind+" "+o.Name)
	}
	r.fact("Node", d.Spec.NodeName)
	r.fact("Cluster", d.Spec.ClusterName)
	r.fact("Identity", identity(c))

	r.title("Crash")
	r.fact("Executable", p.Executable)
	r.fact("Thread name", p.Comm)
	r.fact("PID", number(p.PID)+unless("", " (on the node ", number(p.HostPID), ")"))
	if p.UID != nil {
		r.fact("User ID", fmt.Sprint(*p.UID))
	}
	if p.Signal != 0 || p.SignalName != "" {
		r.fact("Signal", strings.TrimSpace(p.SignalName+" "+unless("", "(", number(int64(p.Signal)), ")")))
	}
	if !p.Time.IsZero() {
		r.fact("Time", fmt.Sprintf("%s (%s ago)", p.Time.UTC().Format(time.RFC3339), table.Age(p.Time.Time, now)))
	}
	if s := st.Summary; s != nil {
		summary(r, s)
	}

	r.title("Dump")
	r.fact("Size", inBytes(st.Size))
	r.fact("Stored", inBytes(st.StoredSize)+unless("", ", ", st.Codec, ""))
	if st.Truncated {
		r.fact("Truncated", "yes"+unless("", ": ", st.TruncatedReason, "")+unless("", "; whole it would be ", promised(st.PromisedSize), ""))
	}
	r.fact("SHA-256", st.SHA256)
	r.fact("Captured by", strings.TrimSpace(string(c.Mode)+" "+c.Handler))
	r.fact("File", c.File)
	if st.UploadTime != nil {
		r.fact("Stored at", st.UploadTime.UTC().Format(time.RFC3339))
	}
	if st.Context != nil {
		r.title("Also stored (kubectl coredump download does not fetch it; the archive of coredumps/dump has it)")
		for _, f := range st.Context.Files {
			r.fact(f.Name, inBytes(f.Size))
		}
	}
	if len(d.Labels) > 0 {
		r.title("Labels of the pod")
		for _, k := range sortedKeys(d.Labels) {
			fmt.Fprintf(w, "  %s=%s\n", text(k), line(d.Labels[k], 128))
		}
	}
}

func summary(r report, s *v1alpha1.CrashSummary) {
	r.fact("Code", s.Code)
	r.fact("Address", s.Address)
	r.fact("Architecture", s.Architecture)
	r.fact("Threads", number(int64(s.Threads))+unless("", "; crashed: number ", number(int64(s.Thread)), "")+unless("", ", TID ", number(s.TID), ""))
	r.fact("Build ID", s.BuildID)
	r.fact("Signature", s.Signature)
	if len(s.Frames) > 0 {
		r.title("Stack, without symbols")
		for i, f := range s.Frames {
			fmt.Fprintf(r.w, "  #%-3d %s\n", i, place(f))
		}
	}
	if len(s.Others) > 0 {
		r.title("Other threads")
		for _, o := range s.Others {
			fmt.Fprintf(r.w, "  %-9d %s\n", o.TID, place(o.CrashFrame))
		}
	}
	if len(s.Modules) > 0 {
		r.title("Modules")
		for _, m := range s.Modules {
			fmt.Fprintf(r.w, "  %-16s %s%s\n", text(m.Start), text(m.Path), unless("", " (build id ", line(m.BuildID, 64), ")"))
		}
	}
}

func place(f v1alpha1.CrashFrame) string {
	s := line(f.Address, 32)
	if f.Module != "" {
		s += fmt.Sprintf(" in %s+%s", text(f.Module), line(f.Offset, 32))
	}
	return s
}

func identity(c v1alpha1.Capture) string {
	switch c.Identity {
	case v1alpha1.IdentityVerified:
		return "verified: the kernel and the container runtime say so"
	case v1alpha1.IdentityClaimed:
		return "claimed: the place of a file says so, which whoever can write there can forge"
	}
	return string(c.Identity)
}

func inBytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%s (%d bytes)", table.Size(n), n)
}

func promised(n int64) string {
	if n == 0 {
		return ""
	}
	return inBytes(n)
}

// unless is before, value and after, or nothing where the value is what means nothing.
func unless(nothing, before, value, after string) string {
	if value == nothing {
		return ""
	}
	return before + value + after
}
