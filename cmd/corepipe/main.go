// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Command corepipe is what the kernel runs for every crash (core_pattern, see core(5)): it puts the dump of a pod's process into the spool of
// the node handler, whether that runs or not, and gives those of the host's own processes to the handler that the host had before.
//
// It runs on the host, as root, without limits, for processes that anybody can arrange. So it is small: fixed buffers, no
// configuration but a file beside it, nothing of Kubernetes, nothing opened by a name that a tenant chose.
package main

import (
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	started := time.Now()
	harden()
	if err := run(started, os.Args[1:]); err != nil {
		complain(err)
		os.Exit(1)
	}
}

// harden keeps corepipe from being a burden itself. Nothing of it is worth failing for.
func harden() {
	// It never dumps core: the kernel forbids that to core_pattern's programs (RLIMIT_CORE of 1), and this does for their descendants.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	// It runs outside of every pod's memory limit. Where memory runs out, it goes before the pods do; the spool can bear that.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0)
	// Nothing is allocated but a few buffers: collecting would only cost time. The limit is for what nobody thought of.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(64 << 20)
	if runtime.GOMAXPROCS(0) > 2 {
		runtime.GOMAXPROCS(2)
	}
	// A shutdown of the host terminates everybody at once; the dump goes on as long as it may. Caught, not ignored: an original handler that is executed
	// must not inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
}
