// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Command crasher fills some memory with words and crashes as a program in C does: it follows a nil
// pointer, and the kernel ends it with SIGSEGV. Its argument is the amount of memory in MiB.
package main

import (
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

type order struct{ total int }

func main() {
	mib := 4
	if len(os.Args) > 1 {
		mib, _ = strconv.Atoi(os.Args[1])
	}
	heap := make([]byte, mib<<20)
	for i := range heap {
		heap[i] = "an order, and whose it is; "[i%27]
	}
	defaultAction(syscall.SIGSEGV)
	os.Exit(checkout(nil) + int(heap[len(heap)/2]))
}

//go:noinline
func checkout(o *order) int { return o.total }

// defaultAction takes the signal away from the Go runtime, which would turn it into a panic.
func defaultAction(s syscall.Signal) {
	var action [4]uintptr // struct sigaction of the kernel, all zero: SIG_DFL; see sigaction(2)
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	if errno != 0 {
		panic(errno)
	}
}
