// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Command tee stands between the kernel and its core dump helper: it runs the helper with its own arguments and descriptors, passes the dump on, and writes
// SHA-256 and length of what the kernel sent to a file that is named after the first argument, the process id.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// Set by the linker: the helper, and the directory for the sums.
var helper, sums string

func main() {
	if err := run(); err != nil {
		// The kernel gives no descriptor to say it on.
		_ = os.WriteFile(filepath.Join(sums, "error"), []byte(err.Error()), 0o600)
		os.Exit(1)
	}
}

func run() error {
	cmd := exec.Command(helper, os.Args[1:]...)
	if pidfd := os.NewFile(3, "pidfd"); pidfd != nil { // %F
		cmd.ExtraFiles = []*os.File{pidfd}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(h, willing{in}), os.Stdin)
	if err != nil {
		return err
	}
	in.Close()
	if err := os.WriteFile(filepath.Join(sums, os.Args[1]), fmt.Appendf(nil, "%s %d", hex.EncodeToString(h.Sum(nil)), n), 0o600); err != nil {
		return err
	}
	return cmd.Wait()
}

// willing takes everything, also after the helper has had enough.
type willing struct{ w io.Writer }

func (w willing) Write(p []byte) (int, error) {
	_, _ = w.w.Write(p)
	return len(p), nil
}
