// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"example.io/coredump/test/cluster"
	"example.io/coredump/test/crash"
)

// uploadTime is how long the dump may take from the crash to the list of the tenant.
const uploadTime = time.Minute

// show is the main job: crash, list, download, look, and be refused.
func (d *demo) show(ctx context.Context) error {
	sum, err := d.crash(ctx)
	if err != nil {
		return err
	}
	if err := d.waitForDump(ctx); err != nil {
		return err
	}
	work := d.mkdir("alice")
	raw := fmt.Sprintf("/apis/coredump.example.io/v1alpha1/namespaces/%s/coredumpendpoints/%s/dump?container=%s", namespace, pod, container)

	d.say("Alice has the role coredump-downloader in the namespace %s, and no other right", namespace)
	for _, command := range []string{
		"kubectl get coredumps -n " + namespace,
		"kubectl get coredumpendpoints -n " + namespace,
		"kubectl get --raw \"" + raw + "\" > coredump.tar.gz",
		"tar -zxvf coredump.tar.gz",
		"sha256sum " + container + "/core-*[0-9]",
	} {
		out, err := d.command(ctx, d.alice, work, command)
		if err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		if strings.HasPrefix(command, "sha256sum") && !strings.HasPrefix(out, sum) {
			return fmt.Errorf("the core has another SHA-256: it was %s when the kernel had written it", sum)
		}
	}
	d.say("The same SHA-256 as when the kernel had written it: %s", sum)
	if err := d.look(ctx, work); err != nil {
		return err
	}

	d.say("Mallory has the same role in another namespace")
	for _, command := range []string{"kubectl get coredumps -n " + namespace, "kubectl get --raw \"" + raw + "\""} {
		out, err := d.command(ctx, d.mallory, work, command)
		if err == nil || !strings.Contains(out, "(Forbidden)") {
			return fmt.Errorf("%s: was to be forbidden", command)
		}
	}
	return nil
}

// crash lets a program crash while the kernel is told to write cores to where a pod's volume would be, and returns the SHA-256 of the
// core. The node handler is stopped meanwhile: it would have taken the core away before it could be looked at.
func (d *demo) crash(ctx context.Context) (sum string, err error) {
	dir := d.mkdir(filepath.Join("dumps", namespace, pod, container))
	d.say("A program crashes; core_pattern is %s", filepath.Join(dir, "core-%e-%t-%p-%s"))
	if err := d.handler.Signal(syscall.SIGSTOP); err != nil {
		return "", err
	}
	defer func() { _ = d.handler.Signal(syscall.SIGCONT) }()
	err = crash.WithPattern(dir, "core-%e-%t-%p-%s", func() error {
		signal, err := crash.Run(d.program, "16")
		fmt.Fprintf(d.out, "%s: %v (core dumped)\n", filepath.Base(d.program), signal)
		return err
	})
	if err != nil {
		return "", err
	}
	cores, err := filepath.Glob(filepath.Join(dir, "core-*"))
	if err != nil || len(cores) != 1 {
		return "", fmt.Errorf("the kernel wrote %d cores into %s, want 1", len(cores), dir)
	}
	f, err := os.Open(cores[0])
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	fmt.Fprintf(d.out, "%s: %d bytes\n", filepath.Base(cores[0]), n)
	return hex.EncodeToString(h.Sum(nil)), err
}

func (d *demo) waitForDump(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, uploadTime, fmt.Errorf("no dump after %s", uploadTime))
	defer cancel()
	err := cluster.Poll(ctx, func(ctx context.Context) error {
		out, err := d.cluster.Kubectl(ctx, d.alice, "get", "coredumps", "-n", namespace, "-o", "name")
		if err == nil && len(out) == 0 {
			err = fmt.Errorf("the list is empty")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%w\nnodehandler:\n%s", err, d.handler.Tail())
	}
	return nil
}

// look opens the core the way a developer would.
func (d *demo) look(ctx context.Context, work string) error {
	command := "file " + container + "/core-*[0-9]"
	if _, err := exec.LookPath("gdb"); err == nil {
		command = "gdb -nx -batch -ex 'bt' " + d.program + " " + container + "/core-*[0-9] 2>/dev/null | grep -E 'terminated|main\\.'"
	} else if _, err := exec.LookPath("file"); err != nil {
		d.say("Neither gdb nor file is installed; this is where they would show the crash")
		return nil
	}
	out, err := d.command(ctx, d.alice, work, command)
	if err != nil || !strings.Contains(out, "crasher") && !strings.Contains(out, "main.checkout") {
		return fmt.Errorf("%s does not show the crash: %w", command, err)
	}
	return nil
}

// command prints a command as a user would type it, runs it, and prints what it says.
func (d *demo) command(ctx context.Context, kubeconfig, dir, command string) (string, error) {
	fmt.Fprintf(d.out, "$ %s\n", command)
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "PATH="+d.cluster.Assets+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	_, _ = d.out.Write(out)
	return string(out), err
}

// invite says how to go on by hand.
func (d *demo) invite() {
	d.say("Everything stays up until Ctrl-C. Try it yourself:")
	fmt.Fprintf(d.out, "export PATH=%s:$PATH KUBECONFIG=%s   # or %s, %s\n", d.cluster.Assets, d.alice, d.mallory, d.cluster.Admin)
	fmt.Fprintf(d.out, "kubectl describe coredumps -n %s\n", namespace)
}
