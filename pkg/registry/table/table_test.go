// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package table

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestCells(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, test := range [][2]string{
		{Size(0), "0"}, {Size(1023), "1023"}, {Size(1024), "1.0Ki"}, {Size(1536), "1.5Ki"}, {Size(1<<20 - 1), "1.0Mi"},
		{Size(12 << 30), "12.0Gi"}, {Size(1023 << 20), "1023.0Mi"}, {Size(math.MaxInt64), "8.0Ei"},
		{Text(""), None}, {Text("plain text ~"), "plain text ~"}, {Text("\x1b[2J\n\té\u202e\x7f\xff"), "?[2J??????"}, {Text(strings.Repeat("x", 1000)), strings.Repeat("x", maxCell)},
		{Age(time.Time{}, now), None}, {Age(now.Add(-90*time.Minute), now), "90m"},
	} {
		if test[0] != test[1] {
			t.Errorf("got %q, want %q", test[0], test[1])
		}
	}
}
