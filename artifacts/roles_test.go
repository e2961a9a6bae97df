// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package artifacts

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	apiserver "example.io/coredump/cmd/apiserver/app"
	gc "example.io/coredump/cmd/gc/app"
	nodehandler "example.io/coredump/cmd/nodehandler/app"
)

// checkRoles: every program may do what it needs, users what their role says, and nobody everything.
func checkRoles(t *testing.T, all objects) {
	for _, role := range list[*rbacv1.ClusterRole](all) {
		if role.AggregationRule != nil {
			t.Errorf("%s is aggregated", role.Name)
		}
		for _, rule := range role.Rules {
			if slices.ContainsFunc(slices.Concat(rule.Verbs, rule.Resources, rule.APIGroups, rule.NonResourceURLs), func(s string) bool { return strings.Contains(s, "*") }) {
				t.Errorf("%s: wildcard in %v", role.Name, rule)
			}
		}
	}
	if roles := list[*rbacv1.Role](all); len(roles) != 0 {
		t.Errorf("roles %v", roles)
	}
	own := "coredump.example.io/"
	metadata := []string{"get", "list", "watch"}
	want := map[string]map[string][]string{
		"coredump-viewer": {own + "coredumps": metadata, own + "coredumpendpoints": metadata},
		"coredump-downloader": {
			own + "coredumps": metadata, own + "coredumpendpoints": metadata,
			own + "coredumps/dump": {"get"}, own + "coredumps/proxy": {"get"}, own + "coredumpendpoints/dump": {"get"}, own + "coredumpendpoints/proxy": {"get"},
		},
		"coredump-presigner":   {own + "coredumps/presign": {"create"}},
		"coredump-apiserver":   {"/namespaces": {"get"}},
		"coredump-nodehandler": {"/pods": {"get", "list", "watch"}, "/namespaces": {"get"}, "events.k8s.io/events": {"create", "patch"}},
		"coredump-gc":          {"/namespaces": {"get", "list"}},
	}
	if n := len(list[*rbacv1.ClusterRole](all)); n != len(want) {
		t.Errorf("%d cluster roles, want %d", n, len(want))
	}
	for name, rights := range want {
		got := map[string][]string{}
		role := get[*rbacv1.ClusterRole](t, all, name)
		for _, rule := range role.Rules {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					got[group+"/"+resource] = rule.Verbs
				}
			}
		}
		if !equal(got, rights) {
			t.Errorf("%s: may %v, want %v", name, got, rights)
		}
		for label := range role.Labels {
			if strings.Contains(label, "aggregate-to-") && (name != "coredump-viewer" || label != "rbac.authorization.k8s.io/aggregate-to-view") {
				t.Errorf("%s has the label %s", name, label)
			}
		}
	}
	if get[*rbacv1.ClusterRole](t, all, "coredump-viewer").Labels["rbac.authorization.k8s.io/aggregate-to-view"] != "true" {
		t.Error("coredump-viewer is not part of view")
	}
	checkBindings(t, all)
}

// checkBindings: each program has its own role, the API server also those of every aggregated API server.
func checkBindings(t *testing.T, all objects) {
	got := map[string][]string{}
	bind := func(ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
		for _, s := range subjects {
			if s.Kind != "ServiceAccount" || s.Namespace != namespace {
				t.Errorf("%s is bound to %v", ref.Name, s)
			}
			got[s.Name] = append(got[s.Name], ref.Kind+" "+ref.Name)
		}
		slices.Sort(got[subjects[0].Name])
	}
	for _, b := range list[*rbacv1.ClusterRoleBinding](all) {
		bind(b.RoleRef, b.Subjects)
	}
	for _, b := range list[*rbacv1.RoleBinding](all) {
		if b.Namespace != "kube-system" {
			t.Errorf("%s is in %s", b.Name, b.Namespace)
		}
		bind(b.RoleRef, b.Subjects)
	}
	want := map[string][]string{
		"coredump-apiserver":   {"ClusterRole coredump-apiserver", "ClusterRole system:auth-delegator", "Role extension-apiserver-authentication-reader"},
		"coredump-nodehandler": {"ClusterRole coredump-nodehandler"},
		"coredump-gc":          {"ClusterRole coredump-gc"},
	}
	if !equal(got, want) {
		t.Errorf("bindings %v, want %v", got, want)
	}
	for _, p := range programs {
		get[*corev1.ServiceAccount](t, all, "coredump-"+p)
		if sa := pod(t, all, p).Spec.ServiceAccountName; sa != "coredump-"+p {
			t.Errorf("%s runs as %s", p, sa)
		}
	}
}

func TestTheProgramsKnowTheFlagsOfTheirManifests(t *testing.T) {
	for _, components := range append([][]string{nil}, one(componentsOfNodes)...) {
		all := build(t, "overlays/self-signed", components...)
		code := 0
		for program, cmd := range map[string]*cobra.Command{
			"apiserver":   apiserver.NewCommand(t.Context()),
			"nodehandler": nodehandler.NewCommand(t.Context()),
			"gc":          gc.New().Command(&code),
		} {
			args := pod(t, all, program).Spec.Containers[0].Args
			cmd.InitDefaultHelpFlag()
			if err := cmd.ParseFlags(args); err != nil {
				t.Errorf("%v: %s %q: %v", components, program, args, err)
			}
		}
	}
}

// one gives each component alone.
func one(components []string) (lists [][]string) {
	for _, c := range components {
		lists = append(lists, []string{c})
	}
	return lists
}
