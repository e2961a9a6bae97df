// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package rlimit

import (
	"math"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLimitsAreThoseOfGetrlimit(t *testing.T) {
	b, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		t.Fatal(err)
	}
	for name, resource := range map[string]int{Core: unix.RLIMIT_CORE, FileSize: unix.RLIMIT_FSIZE} {
		var limit unix.Rlimit
		if err := unix.Prlimit(0, resource, nil, &limit); err != nil {
			t.Fatal(err)
		}
		if got, ok := Soft(b, name); !ok || got != limit.Cur {
			t.Errorf("%s: %d %v, want %d", name, got, ok, limit.Cur)
		}
	}
}

func TestWhatIsNotThereIsNoLimit(t *testing.T) {
	for _, text := range []string{"", "Max core file size", "Max core file size \n", "Max core file size x y bytes\n", "Max core file sizes 1 1\n", " Max core file size 1\n"} {
		if got, ok := Soft([]byte(text), Core); ok {
			t.Errorf("%q: %d", text, got)
		}
	}
	if got, ok := Soft([]byte("Max core file size        unlimited            unlimited            bytes     \n"), Core); !ok || got != math.MaxUint64 {
		t.Error(got, ok)
	}
}

func FuzzSoft(f *testing.F) {
	f.Add([]byte("Max core file size        0                    unlimited            bytes     \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, ok := Soft(b, Core); !ok && n != 0 && n != math.MaxUint64 {
			t.Error(n)
		}
	})
}
