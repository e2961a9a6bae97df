// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.io/coredump/test/cluster"
)

// plugin is kubectl coredump, as kubectl finds it.
func (f *fixture) plugin(ctx context.Context, config, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(f.assets, "kubectl"), append([]string{"coredump"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "KUBECONFIG="+config, "PATH="+f.bin+":"+os.Getenv("PATH"))
	return cmd
}

// plug runs kubectl coredump, and fails the test unless it exits with the code. It gives what it printed.
func (f *fixture) plug(t *testing.T, code int, config, dir string, args ...string) (stdout, stderr string) {
	t.Helper()
	cmd := f.plugin(t.Context(), config, dir, args...)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("kubectl coredump %v exits with %d, want %d:\n%s%s", args, got, code, out.String(), err.String())
	}
	return out.String(), err.String()
}

func TestThePluginAsAUserHasIt(t *testing.T) {
	f := &shared
	ns := f.namespace(t, "plugin")
	alice, bob := f.user(t, "plugin-alice", ns, "coredump-downloader"), f.user(t, "plugin-bob", ns, "coredump-viewer")
	mallory := f.user(t, "plugin-mallory", "", "")
	dir := t.TempDir()
	old := core{namespace: ns, pod: "web-0", container: "app", seed: 1, size: 2 << 20}
	young := core{namespace: ns, pod: "web-0", container: "app", seed: 2, size: 3 << 20}
	first := f.dump(t, old)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := cluster.Poll(ctx, func(context.Context) error { // the time of a crash is in seconds
		if now := time.Now(); now.Unix() <= first.Spec.Process.Time.Unix() {
			return fmt.Errorf("it is still %s", now)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	d := f.dump(t, young)

	out, _ := f.plug(t, 0, alice, dir, "list", "-n", ns)
	contains(t, out, "NAME", "SIGNAL", d.Name)
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[2], d.Name) {
		t.Errorf("not sorted by time:\n%s", out)
	}
	if out, _ := f.plug(t, 0, alice, dir, "list", "-n", ns, "--since="+d.Spec.Process.Time.UTC().Format(time.RFC3339), "-o", "name"); out != d.Name+"\n" {
		t.Errorf("since: %q", out)
	}
	out, _ = f.plug(t, 0, bob, dir, "info", "-n", ns, "web-0")
	contains(t, out, d.Name, young.sum(), "claimed")
	out, _ = f.plug(t, 0, alice, dir, "__complete", "info", "-n", ns, "web-")
	contains(t, out, "web-0\t", d.Name+"\t")

	out, _ = f.plug(t, 0, alice, dir, "download", "-n", ns, "web-0", "--latest=0", "-o", "cores")
	files := strings.Fields(out)
	if len(files) != 2 {
		t.Fatalf("files are %q", files)
	}
	for i, c := range []core{young, old} {
		if sum := shell(t, dir, "", "sha256sum < "+files[i]); !strings.HasPrefix(sum, c.sum()) {
			t.Errorf("%s has SHA-256 %s, want %s", files[i], sum, c.sum())
		}
	}
	if left := shell(t, dir, "", "ls cores | wc -l"); strings.TrimSpace(left) != "2" {
		t.Errorf("there are %s files", left)
	}
	out, _ = f.plug(t, 0, alice, dir, "download", "-n", ns, d.Name, "--keep-compressed")
	if sum := shell(t, dir, "", "zstd -dc "+strings.TrimSpace(out)+" | sha256sum"); !strings.HasPrefix(sum, young.sum()) {
		t.Errorf("compressed: SHA-256 %s", sum)
	}
	if out, _ = f.plug(t, 0, alice, dir, "download", "-n", ns, d.Name, "-o", "-"); out != string(young.bytes()) {
		t.Errorf("the stream has %d bytes", len(out))
	}

	_, errs := f.plug(t, 3, bob, dir, "download", "-n", ns, "web-0")
	contains(t, errs, "you (plugin-bob) may not get coredumps/dump in namespace plugin", "coredump-downloader")
	_, errs = f.plug(t, 3, mallory, dir, "list", "-n", ns)
	contains(t, errs, "coredump-viewer")
	f.plug(t, 3, bob, dir, "list", "-A")
	f.plug(t, 4, alice, dir, "info", "-n", ns, "web-9")
	f.plug(t, 2, alice, dir, "download")
}

// The plugin is killed, interrupted, put to sleep until kube-apiserver has cut it off, and both servers go away meanwhile: it ends with the right bytes, and goes on where it was.
func TestThePluginFetchesWhateverHappens(t *testing.T) {
	const timeout = 3 * time.Second
	f := another(t, cluster.Options{RequestTimeout: timeout})
	ns := f.namespace(t, "plugin")
	alice := f.user(t, "plugin-alice", ns, "coredump-downloader")
	c := core{namespace: ns, pod: "web-0", container: "app", seed: 1, size: 256 << 20}
	d := f.dump(t, c)
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var said bytes.Buffer
	// reach waits until a part of the core has arrived.
	reach := func(cmd *exec.Cmd, part float64) {
		t.Helper()
		for ; float64(arrived(dir)) < part*float64(d.Status.StoredSize) && cmd.Process.Signal(syscall.Signal(0)) == nil; time.Sleep(time.Millisecond) {
			if ctx.Err() != nil {
				t.Fatalf("nothing arrives: %s", said.String())
			}
		}
	}
	begin := func(part float64) *exec.Cmd {
		t.Helper()
		said.Reset()
		cmd := f.plugin(ctx, alice, dir, "download", "-n", ns, d.Name)
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		reach(cmd, part)
		return cmd
	}
	kill := func(cmd *exec.Cmd) {
		t.Helper()
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); err == nil {
			t.Fatal("was complete before it was killed: this shows nothing")
		}
	}
	for i := range 5 {
		kill(begin(0.1 * float64(i+1)))
	}
	cmd := begin(0.55)
	_ = cmd.Process.Signal(syscall.SIGINT)
	var ended *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &ended) || ended.ExitCode() != 130 {
		t.Fatalf("interrupted: %v", err)
	}
	cmd = begin(0.6)
	_ = cmd.Process.Signal(syscall.SIGSTOP) // as a machine that is shut, for longer than kube-apiserver's patience
	f.system.Stop()
	if _, err := f.system.StartAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	select {
	case <-time.After(timeout + time.Second): // nothing is waited for: this is how long it is shut
	case <-ctx.Done():
	}
	_ = cmd.Process.Signal(syscall.SIGCONT)
	reach(cmd, 0.7)
	kill(cmd)
	cmd = begin(0.8)
	if err := f.cluster.RestartAPIServer(ctx, timeout); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	out, _ := f.plug(t, 0, alice, dir, "download", "-n", ns, d.Name) // there already
	if sum := shell(t, dir, "", "sha256sum < "+strings.TrimSpace(out)); !strings.HasPrefix(sum, c.sum()) {
		t.Errorf("SHA-256 %s, want %s", sum, c.sum())
	}
	if left := shell(t, dir, "", "ls"); left != filepath.Base(strings.TrimSpace(out))+"\n" {
		t.Errorf("there are %s", left)
	}
	// What a kill loses is what was under way. It is much of so small a dump: make bench has the figure for a large one.
	if sent, most := f.sent(t), d.Status.StoredSize*2; sent > most {
		t.Errorf("%d bytes were sent for %d", sent, d.Status.StoredSize)
	}
}

// sent is how many bytes apiserver says that it sent, in its log.
func (f *fixture) sent(t *testing.T) (n int64) {
	t.Helper()
	n, err := cluster.Sent(f.cluster.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// arrived is how many bytes a state file says have arrived.
func arrived(dir string) (n int64) {
	states, _ := filepath.Glob(filepath.Join(dir, "*.state"))
	for _, state := range states {
		data, _ := os.ReadFile(state)
		for line := range strings.SplitSeq(string(data), "\n") {
			var from, to int64
			if _, err := fmt.Sscanf(line, "+ %d %d", &from, &to); err == nil {
				n += to - from
			}
		}
	}
	return n
}
