// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package tarball

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestNames(t *testing.T) {
	at := time.Unix(1760000000, 0)
	for _, test := range []struct {
		name  string
		cores []Core
		want  []string
	}{
		{"is the default core pattern", []Core{{"app", "server", at, 42, 11, "x"}}, []string{"app/core-server-1760000000-42-11"}},
		{"has the file of a path", []Core{{"app", "/usr/bin/server", at, 42, 11, "x"}}, []string{"app/core-server-1760000000-42-11"}},
		{"of a program without a name", []Core{{"app", "", at, 42, 11, "x"}}, []string{"app/core-unknown-1760000000-42-11"}},
		{"of a program called .. stays a file", []Core{{"app", "../..", at, 1, 6, "x"}}, []string{"app/core-..-1760000000-1-6"}},
		{"of a hostile program is harmless", []Core{{"app", "a b\n\x1b[31m'\"$(x)é", at, 1, 6, "x"}}, []string{"app/core-a_b___31m____x__-1760000000-1-6"}},
		{"of a long program is bounded", []Core{{"app", strings.Repeat("x", 300), at, 1, 6, "x"}}, []string{"app/core-" + strings.Repeat("x", maxExecutable) + "-1760000000-1-6"}},
		{"same in two pods gets the id", []Core{{"app", "s", at, 1, 6, "a"}, {"app", "s", at, 1, 6, "b"}, {"app", "s", at, 2, 6, "c"}},
			[]string{"app/core-s-1760000000-1-6-a", "app/core-s-1760000000-1-6-b", "app/core-s-1760000000-2-6"}},
		{"same in two containers is not the same", []Core{{"a", "s", at, 1, 6, "a"}, {"b", "s", at, 1, 6, "a"}},
			[]string{"a/core-s-1760000000-1-6", "b/core-s-1760000000-1-6"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := Names(test.cores)
			for i := range test.want {
				if got[i] != test.want[i] {
					t.Errorf("name %d is %q, want %q", i, got[i], test.want[i])
				}
			}
		})
	}
}

// FuzzNames checks the promises of Names for programs with any name.
func FuzzNames(f *testing.F) {
	f.Add("server", "/bin/server", int64(1760000000), int64(1), int32(11))
	f.Add("..", "a/../..", int64(-1), int64(-1), int32(-1))
	f.Add("x.json", "\x00\xff\n", int64(0), int64(1<<62), int32(0))
	f.Add("a-1-2-3", "a", int64(1), int64(2), int32(3))
	harmless := regexp.MustCompile(`^app/core-[A-Za-z0-9._-]+$`)
	f.Fuzz(func(t *testing.T, exe, other string, unix, pid int64, signal int32) {
		at := time.Unix(unix, 0)
		names := Names([]Core{
			{"app", exe, at, pid, signal, "20260101t000000z-0123456789"},
			{"app", exe, at, pid, signal, "20260101t000000z-0123456780"},
			{"app", other, at, pid, signal, "20260101t000000z-0123456700"},
		})
		seen := map[string]bool{}
		for _, n := range names {
			switch {
			case !harmless.MatchString(n) || !filepath.IsLocal(n) || filepath.Clean(n) != n:
				t.Errorf("%q is no harmless name", n)
			case len(n) > 200:
				t.Errorf("%q has %d bytes", n, len(n))
			case seen[n] || seen[n+".json"]:
				t.Errorf("%q comes twice", n)
			case strings.HasSuffix(n, ".json"):
				t.Errorf("%q is a record's name", n)
			}
			seen[n] = true
		}
	})
}
