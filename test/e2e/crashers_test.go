// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"example.io/coredump/test/cluster"
)

// crashImage has the programs that crash, /crash (test/e2e/crash/crash.c) and /gocrash (test/e2e/gocrash), and /reader, which reads copies of dumps
// (test/e2e/reader).
const crashImage = "registry.example.io/crash:1"

// program is the path of a program that crashes, on this machine.
func program(name string) string { return filepath.Join(dir, name) }

// crashers builds the programs that crash, static, and loads their image.
func (f *fixture) crashers(ctx context.Context) error {
	build := func(name string, args ...string) error {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir = filepath.Join(f.repo, "test", "e2e")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", name, err, out)
		}
		return nil
	}
	if err := build("crash", "gcc", "-O0", "-g", "-static", "-pthread", "-Wall", "-Werror", "-o", program("crash"), "crash/crash.c"); err != nil {
		return err
	}
	if err := build("gocrash", "go", "build", "-trimpath", "-o", program("gocrash"), "./gocrash"); err != nil {
		return err
	}
	if err := build("reader", "go", "build", "-trimpath", "-o", program("reader"), "./reader"); err != nil {
		return err
	}
	files := map[string]string{}
	for _, name := range []string{"crash", "gocrash", "reader"} {
		files[name] = program(name)
	}
	return f.node.LoadImage(ctx, cluster.Image{Name: crashImage, Files: files})
}
