// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/storage"
)

// completionTime is how long somebody waits after pressing Tab, and completionLimit what of a namespace is looked at.
const (
	completionTime  = 3 * time.Second
	completionLimit = 1000
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// completeDumps completes names of dumps and of pods that have dumps. What the server says and cannot be a name is left out.
func (a *App) completeDumps(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.complete(cmd, prefix, func(ctx context.Context, s *session) (map[string]string, error) {
		list, err := s.dumps.CoredumpV1alpha1().CoreDumps(s.namespace).List(ctx, metav1.ListOptions{Limit: completionLimit})
		if err != nil {
			return nil, err
		}
		found := map[string]string{}
		for _, d := range list.Items {
			key, err := storage.ParseName(s.namespace, d.Name)
			if err != nil {
				continue
			}
			found[key.Name()] = strings.TrimSpace(line(d.Spec.Process.SignalName, 16) + " " + key.Time().Format(time.RFC3339))
			found[key.Pod] = "the newest dump of this pod"
		}
		return found, nil
	})
}

func (a *App) completeNamespaces(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, prefix, func(ctx context.Context, s *session) (map[string]string, error) {
		list, err := s.core.CoreV1().Namespaces().List(ctx, metav1.ListOptions{Limit: completionLimit})
		if err != nil {
			return nil, err
		}
		found := map[string]string{}
		for _, n := range list.Items {
			if storage.ValidNamespace(n.Name) {
				found[n.Name] = ""
			}
		}
		return found, nil
	})
}

// complete gives those of the names that list finds, with what it says of them, that begin so. Where it fails there are none.
func (a *App) complete(cmd *cobra.Command, prefix string, list func(context.Context, *session) (map[string]string, error)) ([]string, cobra.ShellCompDirective) {
	s, err := a.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(background(cmd), completionTime)
	defer cancel()
	found, err := list(ctx, s)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, name := range sortedKeys(found) {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name+unless("", "\t", found[name], ""))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// background is the context of the command, which completion may not have.
func background(cmd *cobra.Command) context.Context {
	if ctx := cmd.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}
