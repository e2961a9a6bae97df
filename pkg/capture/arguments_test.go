// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"slices"
	"strings"
	"testing"
)

// kernelArguments are what Linux 6.18 passed for a crash in a container.
func kernelArguments() []string {
	return []string{"17359", "4", "17360", "5", "3", "1000", "1001", "11", "1795218938", "1", "18446744073709551615", "0", "pod-abc-123", "crasher", "a b;c", "!tmp!crasher"}
}

func TestTheKernelsArgumentsAreUnderstood(t *testing.T) {
	a, err := ParseArguments(kernelArguments())
	must(t, err)
	if a.HostPID != 17359 || a.PID != 4 || a.HostTID != 17360 || a.TID != 5 || a.PIDFD != 3 || a.UID != 1000 || a.GID != 1001 ||
		a.Signal != 11 || a.Time != 1795218938 || a.Dumpable != 1 || a.CoreLimit != -1 || a.Comm != "a b;c" {
		t.Errorf("%+v", a)
	}
	for letter, want := range map[byte]string{'P': "17359", 'c': "18446744073709551615", 'h': "pod-abc-123", 'E': "!tmp!crasher", 'F': "3", 'x': ""} {
		if got := a.Value(letter); got != want {
			t.Errorf("%%%c is %q", letter, got)
		}
	}
}

func TestAnOlderKernelLeavesArgumentsEmpty(t *testing.T) {
	args := kernelArguments()
	for _, letter := range "FCfiI" {
		args[slices.Index(strings.Fields(Specifiers), "%"+string(letter))] = ""
	}
	a, err := ParseArguments(args)
	must(t, err)
	if a.PIDFD != -1 || a.TID != 0 || a.HostPID != 17359 {
		t.Errorf("%+v", a)
	}
}

func TestArgumentsThatTheKernelDoesNotPassAreRefused(t *testing.T) {
	for letter, values := range map[byte][]string{
		'P': {"", "0", "-1", "x", "1.5", "99999999999", "111111111111111111111111"}, 'u': {"", "-1"}, 'g': {"4294967296"}, 's': {"", "129"},
		't': {"", "0", "99999999999999"}, 'F': {"0", "2", "-1", "x"}, 'd': {"3"},
	} {
		for _, v := range values {
			args := kernelArguments()
			args[slices.Index(strings.Fields(Specifiers), "%"+string(letter))] = v
			if a, err := ParseArguments(args); err == nil {
				t.Errorf("%%%c of %q: %+v", letter, v, a)
			}
		}
	}
	for _, args := range [][]string{nil, kernelArguments()[1:], append(kernelArguments(), "more")} {
		if _, err := ParseArguments(args); err == nil {
			t.Errorf("%d arguments are accepted", len(args))
		}
	}
}

func FuzzArgumentsOfCorepipe(f *testing.F) {
	f.Add(strings.Join(kernelArguments(), "\x00"))
	f.Add(strings.Repeat("\x00", 15))
	f.Fuzz(func(t *testing.T, joined string) {
		a, err := ParseArguments(strings.Split(joined, "\x00"))
		if err != nil {
			return
		}
		if a.HostPID < 1 || a.PID < 0 || a.UID < 0 || a.Time < 1 || a.Time*1e9 < a.Time || len(a.Comm) > maxComm || a.PIDFD != -1 && a.PIDFD < 3 || a.CoreLimit < -1 {
			t.Errorf("%q: %+v", joined, a)
		}
		for l := range strings.FieldsSeq(Specifiers) {
			if len(a.Value(l[1])) > maxPath {
				t.Errorf("%s is %d bytes long", l, len(a.Value(l[1])))
			}
		}
	})
}
