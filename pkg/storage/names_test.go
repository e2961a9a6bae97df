// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"math/rand/v2"
	"regexp"
	"testing"
	"time"
)

var (
	labelPattern     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	subdomainPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
	idPattern        = regexp.MustCompile(`^[0-9]{8}t[0-9]{6}z-[0-9a-f]{10}$`)
)

func checkNames(t *testing.T, s string) {
	t.Helper()
	if got, want := ValidNamespace(s), labelPattern.MatchString(s); got != want {
		t.Errorf("label %q: %v, want %v", s, got, want)
	}
	if got, want := ValidContainer(s), labelPattern.MatchString(s); got != want {
		t.Errorf("container %q: %v, want %v", s, got, want)
	}
	if got, want := ValidPod(s), len(s) <= maxPodName && subdomainPattern.MatchString(s); got != want {
		t.Errorf("subdomain %q: %v, want %v", s, got, want)
	}
	_, err := time.Parse(idTime, s[:min(len(s), len("yyyymmddthhmmssz"))])
	if got, want := validID(s), err == nil && idPattern.MatchString(s); got != want {
		t.Errorf("id %q: %v, want %v", s, got, want)
	}
}

func TestNamesAreThoseOfTheirPatterns(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	const alphabet = "az09-.-.aA/_\n"
	for range 20000 {
		s := make([]byte, random.IntN(9))
		for i := range s {
			s[i] = alphabet[random.IntN(len(alphabet))]
		}
		checkNames(t, string(s))
	}
	id := NewID(time.Unix(1_790_000_000, 0), "x")
	checkNames(t, id)
	for i := range len(id) {
		for _, c := range []byte("0a9gtz-Z/:") {
			checkNames(t, id[:i]+string(c)+id[i+1:])
		}
		checkNames(t, id[:i])
	}
	for _, n := range []int{62, 63, 64, 252, 253, 254} {
		long := make([]byte, n)
		for i := range long {
			long[i] = 'a'
		}
		checkNames(t, string(long))
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"", "a", "a.b", "a..b", "-a", "20260701t120000z-0123456789", "20261301t120000z-0123456789"} {
		f.Add(s)
	}
	f.Fuzz(checkNames)
}
