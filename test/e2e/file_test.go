// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"
)

func TestANodeIsReady(t *testing.T) {
	t.Log(shared.admin(t, "get", "nodes,pods", "-A", "-o", "wide"))
}
