// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build ignore

// Crashes in a goroutine, as GOTRACEBACK=crash has it.
package main

//go:noinline
func inner(p *int) { *p = 1 }

//go:noinline
func middle(p *int) { inner(p); println(*p) }

func main() {
	done := make(chan bool)
	go func() {
		middle(nil)
		done <- true
	}()
	<-done
}
