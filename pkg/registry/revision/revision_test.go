// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package revision

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

func TestASetHasTheSameFingerprintHoweverItCameAbout(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 50 {
		keys := random.Perm(n + 1)
		var a, b Set
		for _, k := range keys {
			a.Add(fmt.Sprint(k))
		}
		for i := range 2 * len(keys) {
			b.Add(fmt.Sprint(i))
		}
		for i := len(keys); i < 2*len(keys); i++ {
			b.Remove(fmt.Sprint(i))
		}
		if a.Fingerprint() != b.Fingerprint() || a.Fingerprint() == 0 || a.Fingerprint() > mask {
			t.Fatalf("%d keys: %d and %d", len(keys), a.Fingerprint(), b.Fingerprint())
		}
	}
}

func TestSetsHaveDifferentFingerprints(t *testing.T) {
	seen := map[Fingerprint]bool{}
	var s Set
	const sets = 2000
	for i := range sets {
		seen[s.Fingerprint()] = true
		s.Add(fmt.Sprintf("shop/web-%d/app/20260701t120000z-0123456789.json", i))
	}
	if len(seen) < sets-20 { // two are expected to collide
		t.Errorf("%d sets have %d fingerprints", sets, len(seen))
	}
}

func TestResourceVersionsKeepTimeAndFingerprint(t *testing.T) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.UTC)
	for _, seen := range []Fingerprint{0, 1, 77777, mask} {
		got, fp, ok := Parse(Of(at, seen))
		if !ok || fp != seen || got.After(at) || at.Sub(got) > 2*time.Millisecond {
			t.Errorf("%d: got %v %d %v", seen, got, fp, ok)
		}
	}
	for _, bad := range []string{"", "0", "-1", "01", "x", " 1", "99999999999999999999"} {
		if _, _, ok := Parse(bad); ok {
			t.Errorf("%q is understood", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("1780000000000000000")
	f.Add("-0")
	f.Fuzz(func(t *testing.T, s string) {
		at, seen, ok := Parse(s)
		if !ok {
			return
		}
		if v, err := strconv.ParseInt(Of(at, seen), 10, 64); err != nil || v <= 0 || Of(at, seen) != s {
			t.Errorf("%q gives %v and %d, and they give %q", s, at, seen, Of(at, seen))
		}
	})
}
