// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"example.io/coredump/pkg/capture"
)

// complainEvery is how often there is a line in the kernel's log, whatever crashes.
const complainEvery = time.Second

// complain writes a line to the kernel's log: where corepipe runs there is nobody else to tell. The line is at most 400 bytes of printable ASCII.
func complain(err error) {
	if !mayComplain(time.Now()) {
		return
	}
	f, e := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if e != nil {
		return
	}
	defer f.Close()
	const warning = 4
	fmt.Fprintf(f, "<%d>corepipe: %s\n", warning, printable(err.Error()))
}

// mayComplain is true once in complainEvery, for all runs of this program together.
func mayComplain(now time.Time) bool {
	exe, err := os.Executable()
	if err != nil {
		return true
	}
	stamp := filepath.Join(filepath.Dir(exe), capture.ComplainedFile)
	if st, err := os.Lstat(stamp); err == nil && now.Sub(st.ModTime()).Abs() < complainEvery {
		return false
	}
	if f, err := os.OpenFile(stamp, os.O_WRONLY|os.O_CREATE, 0o600); err == nil {
		f.Close()
		_ = os.Chtimes(stamp, now, now)
	}
	return true
}

func printable(s string) string {
	b := []byte(s[:min(len(s), 400)])
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}
