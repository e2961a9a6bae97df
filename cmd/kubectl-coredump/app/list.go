// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/table"
)

// lister is the command list.
type lister struct {
	*session
	namespace string // empty for all
	options   metav1.ListOptions
	since     time.Time
	sortBy    string
	output    string
	out       io.Writer
}

func (a *App) listCommand() *cobra.Command {
	l := lister{out: a.Out}
	var allNamespaces, watch bool
	var since string
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls", "get"},
		Short:   "List core dumps",
		Example: "  kubectl coredump list -n shop --since=24h\n  kubectl coredump list -A --field-selector=spec.signal=SIGSEGV -w",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			ctx := cmd.Context()
			if sortings[l.sortBy] == nil {
				return usage("--sort-by is %q: it must be one of %s", l.sortBy, strings.Join(sortedKeys(sortings), ", "))
			}
			if !slices.Contains(outputs, l.output) {
				return usage("--output is %q: it must be one of %s", l.output, strings.Join(outputs[1:], ", "))
			}
			if watch && (l.output == "json" || l.output == "yaml") {
				return usage("--watch prints tables and names")
			}
			if since != "" {
				if l.since, err = parseSince(since, a.Now()); err != nil {
					return err
				}
			}
			if l.session, err = a.connect(); err != nil {
				return err
			}
			if !allNamespaces {
				l.namespace = l.session.namespace
			}
			return l.run(ctx, watch)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&allNamespaces, "all-namespaces", "A", false, "of all namespaces")
	f.StringVarP(&l.options.LabelSelector, "selector", "l", "", "only dumps of pods with these labels, for example app=checkout")
	f.StringVar(&l.options.FieldSelector, "field-selector", "", "only dumps with these fields, for example spec.podName=checkout,spec.signal=SIGSEGV")
	f.StringVar(&since, "since", "", "only crashes within this span of time (90m, 24h, 7d), or since this time (RFC 3339)")
	f.StringVar(&l.sortBy, "sort-by", "time", "what to sort by: time, size, name or pod")
	f.BoolVarP(&watch, "watch", "w", false, "go on and print new dumps until interrupted")
	f.StringVarP(&l.output, "output", "o", "", "wide, name, json or yaml")
	_ = cmd.RegisterFlagCompletionFunc("sort-by", cobra.FixedCompletions(sortedKeys(sortings), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(outputs[1:], cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

var outputs = []string{"", "wide", "name", "json", "yaml"}

func (l *lister) run(ctx context.Context, watch bool) error {
	if err := l.need(ctx, l.namespace, mayList); err != nil {
		return err
	}
	dumps, version, err := l.list(ctx)
	if err != nil {
		return err
	}
	if len(dumps) == 0 && l.output != "json" && l.output != "yaml" && !watch {
		where := "in any namespace"
		if l.namespace != "" {
			where = "in namespace " + l.namespace
		}
		fmt.Fprintf(l.app.ErrOut, "No core dumps %s.\n", where)
		return nil
	}
	if err := l.print(dumps, true); err != nil || !watch {
		return err
	}
	known := map[string]bool{}
	for _, d := range dumps {
		known[d.Namespace+"/"+d.Name] = true
	}
	return l.follow(ctx, version, known)
}

// list gives what is asked for, sorted.
func (l *lister) list(ctx context.Context) ([]v1alpha1.CoreDump, string, error) {
	dumps, version, err := l.all(ctx, l.namespace, l.options)
	if err != nil {
		return nil, "", err
	}
	dumps = slices.DeleteFunc(dumps, func(d v1alpha1.CoreDump) bool { return !l.fits(&d) })
	sortDumps(dumps, l.sortBy)
	return dumps, version, nil
}

func (l *lister) fits(d *v1alpha1.CoreDump) bool {
	return l.since.IsZero() || !d.Spec.Process.Time.Time.Before(l.since)
}

// follow prints dumps that are new, until ctx ends. Where the server has no watch it is asked again and again.
func (l *lister) follow(ctx context.Context, version string, known map[string]bool) error {
	print := func(d *v1alpha1.CoreDump) error {
		key := d.Namespace + "/" + d.Name
		if known[key] || !l.fits(d) {
			return nil
		}
		known[key] = true
		return l.print([]v1alpha1.CoreDump{*d}, false)
	}
	polling := false
	for {
		if !polling {
			err := l.watch(ctx, &version, print)
			if ctx.Err() != nil {
				return nil // how watching ends
			}
			polling = apierrors.IsMethodNotSupported(err) || apierrors.IsNotFound(err) || apierrors.IsForbidden(err)
		}
		select {
		case <-time.After(l.app.Poll):
		case <-ctx.Done():
			return nil
		}
		dumps, v, err := l.list(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil { // the server may come back
			fmt.Fprintf(l.app.ErrOut, "%s\n", message(err))
			continue
		}
		version = v
		for i := range dumps {
			if err := print(&dumps[i]); err != nil {
				return err
			}
		}
	}
}

// watch prints what the server sends, until it ends that.
func (l *lister) watch(ctx context.Context, version *string, print func(*v1alpha1.CoreDump) error) error {
	o := l.options
	o.ResourceVersion, o.AllowWatchBookmarks = *version, true
	w, err := l.dumps.CoredumpV1alpha1().CoreDumps(l.namespace).Watch(ctx, o)
	if err != nil {
		return err
	}
	defer w.Stop()
	for {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				return nil
			}
			d, isDump := e.Object.(*v1alpha1.CoreDump)
			switch {
			case !isDump:
				return apierrors.FromObject(e.Object)
			case e.Type == "ADDED" || e.Type == "MODIFIED":
				if err := print(d); err != nil {
					return err
				}
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// print prints dumps, the header before if it is the first time.
func (l *lister) print(dumps []v1alpha1.CoreDump, first bool) error {
	switch l.output {
	case "json", "yaml":
		list := &v1alpha1.CoreDumpList{Items: dumps}
		list.APIVersion, list.Kind = v1alpha1.SchemeGroupVersion.String(), "CoreDumpList"
		if list.Items == nil {
			list.Items = []v1alpha1.CoreDump{}
		}
		return marshal(l.out, list, l.output)
	case "name":
		for _, d := range dumps {
			if _, err := fmt.Fprintln(l.out, text(d.Name)); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(l.out, 0, 8, 3, ' ', 0)
	if first {
		fmt.Fprintln(w, strings.Join(l.row(nil), "\t"))
	}
	for i := range dumps {
		fmt.Fprintln(w, strings.Join(l.row(&dumps[i]), "\t"))
	}
	return w.Flush()
}

// row is a line of the table; its header for nil.
func (l *lister) row(d *v1alpha1.CoreDump) (row []string) {
	add := func(header string, cell func() string) {
		if d == nil {
			row = append(row, header)
		} else {
			row = append(row, cell())
		}
	}
	if l.namespace == "" {
		add("NAMESPACE", func() string { return text(d.Namespace) })
	}
	add("NAME", func() string { return text(d.Name) })
	add("EXECUTABLE", func() string { return text(d.Spec.Process.Executable) })
	add("SIGNAL", func() string { return text(d.Spec.Process.SignalName) })
	add("SIZE", func() string { return table.Size(d.Status.Size) })
	add("AGE", func() string { return table.Age(d.Spec.Process.Time.Time, l.app.Now()) })
	if l.output == "wide" {
		add("NODE", func() string { return text(d.Spec.NodeName) })
		add("STORED", func() string { return table.Size(d.Status.StoredSize) })
		add("TRUNCATED", func() string { return fmt.Sprint(d.Status.Truncated) })
		add("POD-UID", func() string { return text(d.Spec.PodUID) })
		add("WHAT", func() string {
			if d.Status.Summary == nil {
				return table.None
			}
			return text(d.Status.Summary.Text)
		})
	}
	return row
}

// marshal writes an object as JSON or YAML. Both escape most of what is not printable; the rest, which no record of ours has, becomes question marks.
func marshal(w io.Writer, obj any, format string) error {
	data, err := json.MarshalIndent(obj, "", "    ")
	data = append([]byte(lines(string(data), len(data))), '\n')
	if err == nil && format == "yaml" {
		data, err = yaml.JSONToYAML(data)
	}
	if err == nil {
		_, err = w.Write(data)
	}
	return err
}
