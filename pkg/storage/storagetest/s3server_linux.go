// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"crypto/tls"
	"syscall"
)

// dieWithParent ends the server where the test binary is killed (prctl(2), PR_SET_PDEATHSIG).
var dieWithParent = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

const (
	pause  = syscall.SIGSTOP
	resume = syscall.SIGCONT
)

// insecure is enough to see whether the server is there.
var insecure = &tls.Config{InsecureSkipVerify: true}
