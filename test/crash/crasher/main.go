// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Command crasher fills some memory with words and crashes the way a program does: it follows a nil
// pointer. Its argument is the amount of memory in MiB.
package main

import (
	"os"
	"runtime/debug"
	"strconv"
)

type order struct{ total int }

func main() {
	debug.SetTraceback("crash") // the Go runtime dumps core only when told to; other languages need nothing
	mib := 4
	if len(os.Args) > 1 {
		mib, _ = strconv.Atoi(os.Args[1])
	}
	heap := make([]byte, mib<<20)
	for i := range heap {
		heap[i] = "an order, and whose it is; "[i%27]
	}
	os.Exit(checkout(nil) + int(heap[len(heap)/2]))
}

//go:noinline
func checkout(o *order) int { return o.total }
