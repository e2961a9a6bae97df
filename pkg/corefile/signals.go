// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package corefile

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// The real-time signals, as the GNU C library numbers them; see signal(7).
	firstRealTime = 34
	maxSignal     = 64
)

// SignalName is the name of a signal as signal(7) has it, or "" for what is none.
func SignalName(n int) string {
	if n >= firstRealTime && n <= maxSignal {
		return fmt.Sprintf("SIGRTMIN+%d", n-firstRealTime)
	}
	return unix.SignalName(syscall.Signal(n))
}

// siKernel is SI_KERNEL: the kernel raised the signal, and says no more.
const siKernel = 0x80

// sent are the values of si_code that every signal can have; see sigaction(2) and include/uapi/asm-generic/siginfo.h.
var sent = map[int32]string{
	0:        "sent by kill",
	-1:       "sent by sigqueue",
	-2:       "timer expired",
	-3:       "message queue changed",
	-4:       "asynchronous I/O completed",
	-5:       "I/O possible",
	-6:       "sent by tkill",
	-60:      "name lookup completed",
	siKernel: "raised by the kernel",
}

// meanings are the values of si_code of the signals that faults raise, from 1 on.
var meanings = map[syscall.Signal][]string{
	syscall.SIGILL: {
		"illegal opcode", "illegal operand", "illegal addressing mode", "illegal trap", "privileged opcode", "privileged register",
		"coprocessor error", "internal stack error", "unimplemented instruction address",
	},
	syscall.SIGFPE: {
		"integer divide by zero", "integer overflow", "floating-point divide by zero", "floating-point overflow", "floating-point underflow",
		"floating-point inexact result", "floating-point invalid operation", "subscript out of range", 13: "undiagnosed exception", 14: "trap on condition",
	},
	syscall.SIGSEGV: {
		"address not mapped", "invalid permissions", "failed address bound checks", "protection key", "ADI not enabled", "disrupting MCD error",
		"precise MCD exception", "asynchronous memory tag check fault", "memory tag check fault", "control protection fault",
	},
	syscall.SIGBUS: {
		"invalid address alignment", "nonexistent physical address", "object-specific hardware error", "hardware memory error consumed",
		"hardware memory error detected",
	},
	syscall.SIGTRAP: {"breakpoint", "trace trap", "branch trap", "hardware breakpoint", "undiagnosed trap", "perf event"},
	syscall.SIGSYS:  {"forbidden by seccomp", "system call user dispatch"},
}

// CodeMeaning says in words what si_code means with a signal; "" where that is not known. See sigaction(2).
func CodeMeaning(signal, code int32) string {
	if words, ok := sent[code]; ok {
		return words
	}
	if words := meanings[syscall.Signal(signal)]; code > 0 && int(code) <= len(words) {
		return words[code-1]
	}
	return ""
}
