// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	storeIsPure := rule{packages: []string{"pkg/store"}, forbidden: []string{"k8s.io/apiserver/...", "./pkg/..."}, allowed: []string{"./pkg/store/..."}, because: "purity"}
	for name, tc := range map[string]struct {
		rule rule
		g    graph
		want string // empty: no rule is broken
	}{
		"a direct import is found": {
			rule: storeIsPure,
			g:    graph{"m/pkg/store": {"k8s.io/apiserver/pkg/server"}},
			want: "m/pkg/store\n\t-> k8s.io/apiserver/pkg/server\n\tpurity",
		},
		"an import by way of others is found, with the shortest way": {
			rule: storeIsPure,
			g:    graph{"m/pkg/store": {"a", "b"}, "a": {"b"}, "b": {"k8s.io/apiserver"}},
			want: "m/pkg/store\n\t-> b\n\t-> k8s.io/apiserver\n\tpurity",
		},
		"a longer name is another package": {
			rule: storeIsPure,
			g:    graph{"m/pkg/store": {"k8s.io/apiserver-network-proxy/client"}},
		},
		"what is allowed among the forbidden is allowed": {
			rule: storeIsPure,
			g:    graph{"m/pkg/store": {"m/pkg/store/codec"}},
		},
		"our own packages are forbidden by their directory": {
			rule: storeIsPure,
			g:    graph{"m/pkg/store": {"m/pkg/registry"}},
			want: "m/pkg/store\n\t-> m/pkg/registry\n\tpurity",
		},
		"a package below is not the package": {
			rule: storeIsPure,
			g:    graph{"m/pkg/store/s3": {"k8s.io/apiserver"}},
		},
		"a rule about direct imports lets others pass on": {
			rule: rule{packages: []string{"..."}, except: []string{"pkg/s3"}, forbidden: []string{"aws/..."}, directly: true},
			g:    graph{"m/cmd": {"m/pkg/s3"}, "m/pkg/s3": {"aws/sdk"}},
		},
		"a cycle comes to an end": {
			rule: storeIsPure,
			g:    graph{"m/pkg/store": {"a"}, "a": {"b"}, "b": {"a"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(check("m", tc.g, []rule{tc.rule}), "\n")
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestEveryRuleSaysWhy(t *testing.T) {
	for _, r := range rules {
		if r.because == "" || len(r.packages) == 0 || len(r.forbidden) == 0 {
			t.Errorf("incomplete: %+v", r)
		}
	}
}
