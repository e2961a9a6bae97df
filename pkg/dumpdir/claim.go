// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package dumpdir

import (
	"fmt"
	"strings"

	"example.io/coredump/pkg/storage"
)

// Claim says whose a file claims to be. Whoever can write to the directory can claim anything.
type Claim struct {
	Namespace, Pod, Container string
}

// claim reads the claim of the file name, which is <namespace>/<pod>/<container>/…/<file>: as many of the three as there are
// directories. The rest comes from the defaults, and the pod's name, at last, from the host name in the file's
// name (%h). Its error says what is missing or wrong.
func claim(name string, f Fields, defaults Claim) (Claim, error) {
	dirs := strings.Split(name, "/")
	dirs = dirs[:len(dirs)-1]
	c := defaults
	for i, to := range []*string{&c.Namespace, &c.Pod, &c.Container} {
		if i < len(dirs) {
			*to = dirs[i]
		}
	}
	if c.Pod == "" {
		c.Pod = f.Text('h')
	}
	for _, p := range []struct {
		what, value string
		valid       func(string) bool
	}{
		{"namespace", c.Namespace, storage.ValidNamespace},
		{"pod", c.Pod, storage.ValidPod},
		{"container", c.Container, storage.ValidContainer},
	} {
		if p.value == "" {
			return c, fmt.Errorf("no %s: the path must be <namespace>/<pod>/<container>/<file>, or there must be a default", p.what)
		}
		if !p.valid(p.value) {
			return c, fmt.Errorf("%.80q cannot be the name of a %s", p.value, p.what)
		}
	}
	return c, nil
}
