// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"golang.org/x/tools/go/analysis/analysistest"
)

// The packages below testdata/src are complete: those of logr and klog are there by the signatures that matter.
func TestLogcheck(t *testing.T) {
	analysistest.Run(t, analysistest.TestData(), analyzer, "a")
}
