// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package seekabletest has what tests of seekable streams have in common.
package seekabletest

import (
	"math/rand/v2"
	"strings"
)

// LikeCore is n bytes that compress as cores do: here zeros, there text, there noise, in pieces of at most longest bytes.
func LikeCore(r *rand.Rand, n, longest int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; {
		size := min(1+r.IntN(longest), n-i)
		switch piece := b[i : i+size]; r.IntN(3) {
		case 0:
			for j := range piece {
				piece[j] = byte(r.Uint32())
			}
		case 1:
			copy(piece, strings.Repeat("the quick brown fox ", size/20+1))
		}
		i += size
	}
	return b
}
