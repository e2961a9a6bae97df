// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"strings"
	"testing"
)

// TestRBACMatrix asks every way to the metadata and to the bytes with every kind of right.
func TestRBACMatrix(t *testing.T) {
	f := &shared
	ns, other := f.namespace(t, "rbac"), f.namespace(t, "rbac-other")
	c := core{namespace: ns, pod: "web-0", container: "app", seed: 1, size: 1 << 20}
	d := f.dump(t, c)
	second := f.dump(t, core{namespace: ns, pod: "web-1", container: "app", seed: 2, size: 1 << 20})

	role := func(name string, resource, verbs string, names ...string) {
		args := []string{"create", "role", "-n", ns, name, "--verb=" + verbs, "--resource=" + resource}
		for _, n := range names {
			args = append(args, "--resource-name="+n)
		}
		f.admin(t, args...)
		f.admin(t, "create", "rolebinding", "-n", ns, name, "--role="+name, "--user="+name)
	}
	nobody := f.user(t, "rbac-nobody", ns, "")
	viewer := f.user(t, "rbac-viewer", ns, "view") // the viewer's rights are aggregated into view
	downloader := f.user(t, "rbac-downloader", ns, "coredump-downloader")
	elsewhere := f.user(t, "rbac-elsewhere", other, "coredump-downloader")
	role("rbac-one", "coredumps.coredump.example.io/dump,coredumps.coredump.example.io/proxy", "get", d.Name)
	one := f.user(t, "rbac-one", ns, "")
	role("rbac-proxy", "coredumps.coredump.example.io/proxy,coredumpendpoints.coredump.example.io/proxy", "get")
	proxyOnly := f.user(t, "rbac-proxy", ns, "")
	admin := f.user(t, "rbac-admin", ns, "admin") // the namespace's administrator, who gets nothing of ours but what view has

	base := api + "/namespaces/" + ns
	ways := []struct {
		name, path string
	}{
		{"list coredumps", base + "/coredumps"},
		{"get coredump", base + "/coredumps/" + d.Name},
		{"dump of coredump", base + "/coredumps/" + d.Name + "/dump"},
		{"proxy of coredump", base + "/coredumps/" + d.Name + "/proxy"},
		{"dump of the other coredump", base + "/coredumps/" + second.Name + "/dump"},
		{"proxy of the other coredump", base + "/coredumps/" + second.Name + "/proxy"},
		{"list endpoints", base + "/coredumpendpoints"},
		{"get endpoint", base + "/coredumpendpoints/web-0"},
		{"dump of endpoint", base + "/coredumpendpoints/web-0/dump"},
		{"proxy of endpoint", base + "/coredumpendpoints/web-0/proxy"},
		{"list of all namespaces", api + "/coredumps"},
	}
	for _, user := range []struct {
		name, config string
		allowed      string // one letter a way: y or n
	}{
		{"nobody", nobody, "nnnnnnnnnnn"},
		{"viewer", viewer, "yynnnnyynnn"},
		{"downloader", downloader, "yyyyyyyyyyn"},
		{"downloader elsewhere", elsewhere, "nnnnnnnnnnn"},
		{"resourceNames", one, "nnyynnnnnnn"},
		{"proxy without dump", proxyOnly, "nnnnnnnnnnn"},
		{"admin of the namespace", admin, "yynnnnyynnn"},
	} {
		for i, way := range ways {
			_, err := f.kubectl(t, user.config, "get", "--raw", way.path)
			switch want := user.allowed[i] == 'y'; {
			case want && err != nil:
				t.Errorf("%s: %s: %v, want it allowed", user.name, way.name, err)
			case !want && (err == nil || !strings.Contains(err.Error(), "(Forbidden)")):
				t.Errorf("%s: %s: %v, want Forbidden", user.name, way.name, err)
			}
		}
	}
	t.Run("auth can-i has the right form of the question", func(t *testing.T) {
		out, _ := f.kubectl(t, downloader, "auth", "can-i", "get", "coredumps", "--subresource=dump", "-n", ns)
		contains(t, out, "yes")
		out, _ = f.kubectl(t, viewer, "auth", "can-i", "get", "coredumps", "--subresource=dump", "-n", ns)
		contains(t, out, "no")
	})
}
