// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Command gocrash crashes as programs in Go do that want a core: a nil pointer becomes a panic, and the runtime, with GOTRACEBACK=crash, raises SIGABRT.
package main

type order struct{ total int }

func main() { println(checkout(nil)) }

//go:noinline
func checkout(o *order) int {
	// Not at the first instruction: for a debugger the call of the panic returns to the faulting one, so it looks before it.
	println("checkout")
	return o.total
}
