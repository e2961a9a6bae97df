// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package required is for tests of what a machine may lack.
package required

import (
	"os"
	"testing"
)

// Missing ends a test that cannot run, and says why: it is skipped, or fails where CI=true, which has everything.
func Missing(t testing.TB, why string) {
	t.Helper()
	why = "SKIPPED, NOT PASSED: " + why
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}
