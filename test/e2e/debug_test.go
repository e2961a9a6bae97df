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
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/test/cluster"
	"example.io/coredump/test/transcript"
)

// debuggerImage has this machine's gdb.
const debuggerImage = "registry.example.io/gdb:1"

// holds is a command of crashImage that runs for longer than any test, for --share=process: the image has no sleep.
const holds = "--hold-command=/crash,-s,100000"

// TestDebuggersOpenDumpsInPods: whoever may download, make pods and exec into them opens a dump beside the image that crashed, in a namespace that takes
// restricted pods alone.
func TestDebuggersOpenDumpsInPods(t *testing.T) {
	f := &shared
	f.enter(t, pipe)
	f.loadDebugger(t, debuggerImage)
	ns := f.namespace(t, "debugged")
	f.admin(t, "label", "namespace", ns, "pod-security.kubernetes.io/enforce=restricted")
	user := f.user(t, ns)
	f.may(t, ns, "create,get,delete", "pods")
	if _, err := f.client(t).CoreV1().Pods(ns).Create(t.Context(), crashing(ns, "unrestricted", "/crash"), metav1.CreateOptions{}); err == nil {
		t.Error("the namespace takes pods that are not restricted")
	}
	dump := f.awaitDump(t, pipe, user, f.create(t, pipe, distroless(crashing(ns, "crashed", "/crash", "-m", "8", "-t", "4"))))

	t.Run("without the right to exec", func(t *testing.T) {
		out, said, code := f.plug(t, user, "debug", "crashed", "-n", ns, "--debugger-image="+debuggerImage)
		if code != 3 || !strings.Contains(said, "may not create pods/exec in namespace "+ns) || !strings.Contains(said, "ClusterRole edit") {
			t.Errorf("exit code %d, want 3, the right and the role:\n%s%s", code, said, out)
		}
		f.debugPodsAreGone(t, ns)
	})
	f.may(t, ns, "create", "pods/exec")
	inImage := []string{"debug", "crashed", "-n", ns, "--debugger-image=" + debuggerImage, "--share=image"}
	inProcess := []string{"debug", dump.Name, "-n", ns, "--debugger-image=" + debuggerImage, "--share=process", holds}
	for _, args := range [][]string{inImage, inProcess} {
		t.Run(args[5], func(t *testing.T) {
			out, said, code := f.plug(t, user, append(args, "--", "-batch", "-ex", "bt", "-ex", "info threads")...)
			if code != 0 || !strings.Contains(out, "crash_here (where=0x0)") || !strings.Contains(out, "SIGSEGV") || strings.Count(out, "LWP ") < 4 {
				t.Errorf("exit code %d, no crash in crash_here:\n%s%s", code, said, out)
			}
			f.debugPodsAreGone(t, ns)
			if _, said, code := f.plug(t, user, append(args, "--", "-batch", "-ex", "quit 42")...); code != 42 {
				t.Errorf("exit code %d, want that of the debugger, 42:\n%s", code, said)
			}
		})
	}
	for _, e := range []struct {
		signal syscall.Signal
		args   []string
	}{{syscall.SIGINT, inImage}, {syscall.SIGTERM, inProcess}, {syscall.SIGHUP, inProcess}} {
		t.Run("ended by "+e.signal.String(), func(t *testing.T) {
			f.debugInterrupted(t, e.signal, ns, user, "asleep", append(e.args, "--", "-batch", "-ex", "echo asleep\\n", "-ex", "shell sleep 600"))
		})
	}
	t.Run("ended while the pod waits for an image", func(t *testing.T) {
		f.debugInterrupted(t, syscall.SIGINT, ns, user, "pod coredump-debug-", []string{"debug", dump.Name, "-n", ns, "--debugger-image=registry.example.io/nowhere:1"})
	})
	t.Run("on a terminal", func(t *testing.T) { f.debugOnATerminal(t, ns, user, inProcess) })
	t.Run("an image without the command that holds it", func(t *testing.T) {
		_, said, code := f.plug(t, user, inProcess[:6]...)
		if code != 1 || !strings.Contains(said, `exec: "sleep": executable file not found`) || !strings.Contains(said, "--hold-command") {
			t.Errorf("exit code %d, want 1, the reason and what helps:\n%s", code, said)
		}
		f.debugPodsAreGone(t, ns)
	})
}

// debugInterrupted ends the plugin, and nobody else, once it has printed something.
func (f *fixture) debugInterrupted(t *testing.T, s syscall.Signal, ns, user, printed string, args []string) {
	cmd := f.plugin(t.Context(), user, args...)
	var out output
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	await(t, func(context.Context) error {
		if !strings.Contains(out.String(), printed) {
			return fmt.Errorf("no %q: %s", printed, out.String())
		}
		return nil
	})
	if err := cmd.Process.Signal(s); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	select {
	case <-ended:
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		t.Fatalf("it goes on: %s", out.String())
	}
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d, want 130: %s", code, out.String())
	}
	f.debugPodsAreGone(t, ns)
}

// debugOnATerminal is how people have it: they type, Ctrl-C is the debugger's, and sometimes they close the window.
func (f *fixture) debugOnATerminal(t *testing.T, ns, user string, args []string) {
	s := newShell(t, t.TempDir(), f.path())
	s.run(t, "export KUBECONFIG="+user)
	command := "kubectl coredump " + strings.Join(args, " ")
	s.start(t, command)
	s.sees(t, "(gdb)", 1)
	s.types(t, "\x03")
	s.sees(t, "(gdb)", 2)
	s.types(t, "bt\n")
	s.sees(t, "(gdb)", 3)
	s.types(t, "quit\n")
	if out := transcript.Screen(s.end(t)); !strings.Contains(out, "crash_here (where=0x0)") || strings.Contains(out, "error:") {
		t.Errorf("no stack, or an error:\n%s", out)
	}
	if code := s.run(t, "echo $?"); strings.TrimSpace(code) != "0" {
		t.Errorf("exit code %s", code)
	}
	f.debugPodsAreGone(t, ns)

	before := strings.Count(s.screen.String(), "(gdb)")
	s.start(t, command)
	s.sees(t, "(gdb)", before+1)
	s.terminal.Close()
	await(t, func(ctx context.Context) error {
		pods, err := f.client(t).CoreV1().Pods(ns).List(ctx, debugPods)
		if err == nil && len(pods.Items) > 0 {
			err = fmt.Errorf("%s is left after the terminal was closed", pods.Items[0].Name)
		}
		return err
	})
	f.debugPodsAreGone(t, ns)
}

var debugPods = metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=coredump-debug"}

// debugPodsAreGone: the API has none, and the node has no core of one.
func (f *fixture) debugPodsAreGone(t *testing.T, ns string) {
	t.Helper()
	pods, err := f.client(t).CoreV1().Pods(ns).List(t.Context(), debugPods)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pods.Items {
		t.Errorf("pod %s is left: %s, deleted %v", p.Name, p.Status.Phase, p.DeletionTimestamp)
	}
	await(t, func(context.Context) error {
		cores, err := filepath.Glob(filepath.Join(dir, "kubelet/pods/*/volumes/kubernetes.io~empty-dir/core/core"))
		if err == nil && len(cores) > 0 {
			err = fmt.Errorf("left on the node: %v", cores)
		}
		return err
	})
}

// plugin is kubectl coredump as people run it, not yet started.
func (f *fixture) plugin(ctx context.Context, config string, args ...string) *exec.Cmd {
	cmd := f.cluster.Command(ctx, config, append([]string{"coredump"}, args...)...)
	cmd.Env = append(cmd.Env, "PATH="+f.path())
	return cmd
}

// path is PATH of those who use kubectl and the plugin.
func (f *fixture) path() string { return f.cluster.Assets + ":" + f.bin + ":" + os.Getenv("PATH") }

// plug runs the plugin.
func (f *fixture) plug(t *testing.T, config string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := f.plugin(ctx, config, args...)
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), said.String(), cmd.ProcessState.ExitCode()
}

// loadDebugger gives the node an image that has this machine's gdb.
func (f *fixture) loadDebugger(t *testing.T, name string) {
	t.Helper()
	files, err := cluster.Debugger(t.Context())
	if err == nil {
		err = f.node.LoadImage(t.Context(), cluster.Image{Name: name, Files: files, Entrypoint: []string{"sh"}})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// may gives the user of a namespace (user) a right to a resource in it.
func (f *fixture) may(t *testing.T, namespace, verbs, resource string) {
	t.Helper()
	name := "may-" + strings.ReplaceAll(resource, "/", "-")
	f.admin(t, "create", "role", "-n", namespace, name, "--verb="+verbs, "--resource="+resource)
	f.admin(t, "create", "rolebinding", "-n", namespace, name, "--role="+name, "--user="+namespace+"-developer")
}
