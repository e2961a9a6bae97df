// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package thread does things on an operating system thread that is of no use to anybody afterwards: one with other namespaces, another root
// directory, fewer rights.
package thread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Run calls f on a thread that runs nothing else meanwhile and nothing at all afterwards: it ends soon after f returns. It is never the
// first thread of the process, which the runtime cannot end and whose state is what /proc/pid tells of the process.
func Run(f func()) {
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread() // and never unlocked, but for the first thread: so the runtime ends the thread
		if unix.Gettid() == unix.Getpid() {
			// While this goroutine holds it, no other can get it.
			Run(f)
			runtime.UnlockOSThread()
			close(done)
			return
		}
		defer close(done)
		f()
	}()
	<-done
}
