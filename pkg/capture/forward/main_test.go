// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"example.io/coredump/pkg/capture/initns"
)

// TestMain lets the kernel run the test as the handler of a crash: |<dir>/handler <letters and values>. It then forwards to the pattern that is in the file
// "pattern" in its directory, and tells about errors in the file "error".
func TestMain(m *testing.M) {
	switch {
	case filepath.Base(os.Args[0]) == "handler":
		dir := filepath.Dir(os.Args[0])
		if err := handle(dir, os.Args[1:]); err != nil {
			os.WriteFile(filepath.Join(dir, "error"), []byte(err.Error()), 0o600)
		}
		os.Exit(0)
	case os.Getenv("COREDUMP_TEST_RUN") != "":
		// In a mount namespace of its own.
		p := Program{Args: []string{"/bin/sh", "-c", "readlink /proc/self/ns/mnt; pwd", "handler"}, Namespaces: initns.Dir()}
		out := os.Getenv("COREDUMP_TEST_RUN")
		p.Args[2] = "{ " + p.Args[2] + "; cat; } > " + out
		in, err := os.Open("/dev/null")
		if err == nil {
			err = p.Run(context.Background(), in)
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// letters are what the kernel is asked for, behind the name of the handler.
const letters = "PpIiFugstdcChfeE"

func handle(dir string, args []string) error {
	value := func(letter byte) string {
		for i := range letters {
			if letters[i] == letter && i < len(args) {
				return args[i]
			}
		}
		return ""
	}
	text, err := os.ReadFile(filepath.Join(dir, "pattern"))
	if err != nil {
		return err
	}
	p, err := Parse(string(text))
	if err != nil {
		return err
	}
	if p.Kind() == ToProgram {
		return Exec(p.Args(value))
	}
	pid, _ := strconv.Atoi(value('P'))
	dumpable, _ := strconv.Atoi(value('d'))
	limit, _ := strconv.ParseUint(value('c'), 10, 64)
	sum := sha256.New()
	n, err := File{
		PID: pid, Verify: func() error { return nil }, Path: p.Path(value, false), Dumpable: dumpable, Limit: limit, HostRoot: "/",
	}.Write(io.TeeReader(os.Stdin, sum))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "written"), fmt.Appendf(nil, "%d %x", n, sum.Sum(nil)), 0o600)
}
