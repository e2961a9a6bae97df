// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"example.io/coredump/test/required"
)

func TestDebugHere(t *testing.T) {
	w := newWorld(t)
	content := bytes.Repeat([]byte("core"), 10_000)
	d := w.dump("checkout", time.Hour, content)
	executable := filepath.Join(w.dir, "-server")
	if err := os.WriteFile(executable, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	core := filepath.Join(w.dir, "app-server-"+d.Name[strings.LastIndexByte(d.Name, '.')+1:]+".core")
	for debugger, want := range map[string][]string{
		"gdb":   {"gdb", "-nx", "-iex", "set auto-load off", "-batch", "-ex", "bt", executable, core},
		"lldb":  {"lldb", "--no-lldbinit", "-batch", "-ex", "bt", "--core", core, executable},
		"delve": {"dlv", "core", "--allow-non-terminal-interactive", "-batch", "-ex", "bt", executable, core},
	} {
		var ran Program
		w.exec = func(_ context.Context, p Program) error { ran = p; return nil }
		w.ends(0, []string{"warning: whoever controlled the process"}, "debug", "checkout", "--debugger="+debugger, "--executable="+executable, "--dir="+w.dir, "--", "-batch", "-ex", "bt")
		if !slices.Equal(ran.Args, want) || !ran.Interactive {
			t.Errorf("%s: ran %q, want %q", debugger, ran.Args, want)
		}
	}
	if got, err := os.ReadFile(core); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	w.exec = func(ctx context.Context, p Program) error {
		return exec.CommandContext(ctx, "sh", "-c", "exit 42").Run()
	}
	w.ends(42, nil, "debug", "checkout", "--executable="+executable, "--dir="+w.dir)
	w.ends(2, []string{"no such file"}, "debug", "checkout", "--executable="+executable+"x", "--dir="+w.dir)
}

// The pod has the crashed image, the core comes into it as it is, and it is gone in the end, whatever happens.
func TestDebugInAPod(t *testing.T) {
	for _, share := range []string{"auto", "process"} {
		w := newWorld(t)
		content := bytes.Repeat([]byte("core"), 10_000)
		d := w.dump("checkout", time.Hour, content)
		d.Spec.ImageID = "registry.example.io/checkout@sha256:" + strings.Repeat("0", 64)
		var received []byte
		var debugger []string
		corrupt := false
		w.exec = func(_ context.Context, p Program) (err error) {
			args := strings.Join(p.Args, " ")
			switch {
			case !strings.HasPrefix(args, "kubectl --server="+w.http.URL+" exec"):
				t.Errorf("ran %s", args)
			case strings.HasSuffix(args, "cat >/coredump/core"):
				received, err = io.ReadAll(p.In)
			case strings.HasSuffix(args, "sha256sum /coredump/core"):
				if corrupt {
					received = append(received, 0)
				}
				fmt.Fprintf(p.Out, "%x  /coredump/core\n", sha256.Sum256(received))
			default:
				debugger = p.Args
			}
			return err
		}
		run := func(args ...string) int {
			w.mu.Lock()
			crashed := &corev1.Pod{Spec: corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "registry"}}}}
			crashed.UID = "uid-of-checkout"
			w.pods = map[string]*corev1.Pod{"checkout": crashed}
			w.deleted = nil
			w.mu.Unlock()
			done := make(chan int)
			go func() {
				done <- w.run(append([]string{"debug", "checkout", "--debugger-image=gdb:1", "--share=" + share}, args...)...)
			}()
			for {
				select {
				case code := <-done:
					return code
				case <-time.After(time.Millisecond):
					w.mu.Lock()
					for _, pod := range w.pods {
						pod.Status.ContainerStatuses = nil
						for _, c := range pod.Spec.Containers {
							pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
						}
					}
					w.mu.Unlock()
				}
			}
		}
		if code := run("--", "-batch"); code != 0 {
			t.Fatalf("ends with %d: %s", code, w.err.String())
		}
		if !bytes.Equal(received, content) {
			t.Errorf("received %d bytes", len(received))
		}
		if i := slices.Index(debugger, "sh"); i < 0 || !slices.Equal(debugger[i+4:], []string{"gdb", "-nx", "-iex", "set auto-load off", "-iex", "set sysroot @ROOT@", "-batch", "@ROOT@/app/server", "/coredump/core"}) {
			t.Errorf("the debugger is %q", debugger)
		}
		pod := w.pods["coredump-debug-x1"]
		switch {
		case share == "auto" && (len(pod.Spec.Containers) != 1 || pod.Spec.Volumes[1].Image.Reference != d.Spec.ImageID):
			t.Errorf("pod is %+v", pod.Spec)
		case share == "process" && (len(pod.Spec.Containers) != 2 || !*pod.Spec.ShareProcessNamespace || pod.Spec.Containers[1].Image != d.Spec.ImageID):
			t.Errorf("pod is %+v", pod.Spec)
		case len(pod.Spec.ImagePullSecrets) != 1 || pod.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution[0].Preference.MatchExpressions[0].Values[0] != "node-1":
			t.Errorf("pod is pulled with %v, affinity %v", pod.Spec.ImagePullSecrets, pod.Spec.Affinity)
		case *pod.Spec.AutomountServiceAccountToken || !*pod.Spec.SecurityContext.RunAsNonRoot:
			t.Errorf("pod may too much: %+v", pod.Spec)
		}
		corrupt = true
		if code := run(); code != 1 || !strings.Contains(w.err.String(), "the core in the pod has the SHA-256") {
			t.Errorf("%d: %s", code, w.err.String())
		}
		if !slices.Equal(w.deleted, []string{"coredump-debug-x1"}) {
			t.Errorf("deleted %v", w.deleted)
		}
		d.Status.SHA256 = strings.Repeat("0", 64)
		if code := run(); code != 6 || !slices.Equal(w.deleted, []string{"coredump-debug-x1"}) {
			t.Errorf("%d, deleted %v: %s", code, w.deleted, w.err.String())
		}
	}
}

// delve takes an executable and a core, and no core alone: nobody waits for a pod to hear that.
func TestDelveInAPodWantsTheExecutable(t *testing.T) {
	w := newWorld(t)
	w.dump("checkout", time.Hour, []byte("core")).Spec.Process.Executable = ""
	w.ends(2, []string{"--program"}, "debug", "checkout", "--debugger=delve", "--debugger-image=delve:1")
	if len(w.pods) != 0 {
		t.Errorf("made %v", w.pods)
	}
}

// The pod runs where namespaces allow no more than the level restricted of the Pod Security Standards.
func TestDebugPodIsRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	d := w.dump("checkout", time.Hour, []byte("core"))
	for _, share := range []string{"image", "process"} {
		pod := debugPod(d, "registry.example.io/checkout:v1", share, debugOptions{image: "gdb", hold: []string{"sleep", "infinity"}})
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &pod.ObjectMeta, &pod.Spec))
		if !result.Allowed {
			t.Errorf("%s: %s", share, result.ForbiddenDetail())
		}
	}
}

// The script puts the place of the crashed image where it belongs, and nothing else is changed.
func TestRootIsFound(t *testing.T) {
	script := strings.Replace(findRoot, "root=/target", "root="+t.TempDir(), 1)
	root := script[len("root="):strings.IndexByte(script, '\n')]
	args := []string{"printf", "%s\\n", "set sysroot @ROOT@", "@ROOT@/app/it's \"$(x)\" *", "-x", ""}
	out, err := exec.Command("sh", append([]string{"-c", script, "sh"}, args...)...).Output()
	want := "set sysroot " + root + "\n" + root + "/app/it's \"$(x)\" *\n-x\n\n"
	if err != nil || string(out) != want {
		t.Errorf("%v: %q, want %q", err, out, want)
	}
	// Without a volume: by the environment of the process that holds the image.
	holder := exec.Command("sleep", "1000")
	holder.Env = []string{targetMark + "=1"}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Process.Kill(); _ = holder.Wait() }()
	script = strings.Replace(findRoot, "root=/target", "root=/nowhere", 1)
	out, err = exec.Command("sh", "-c", script, "sh", "echo", "@ROOT@/app").Output()
	if want := fmt.Sprintf("/proc/%d/root/app\n", holder.Process.Pid); err != nil || string(out) != want {
		t.Errorf("%v: %q, want %q", err, out, want)
	}
}

// A process that runs a file that its user may not read shows its root to nobody but root.
func TestRootThatTheKernelDoesNotShow(t *testing.T) {
	if os.Geteuid() != 0 {
		required.Missing(t, "making processes of another user needs root")
	}
	dir, err := os.MkdirTemp("/tmp", "coredump-test-root-") // where others may go
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	sleep := filepath.Join(dir, "sleep")
	if out, err := exec.Command("sh", "-c", "chmod 755 "+dir+" && cp $(command -v sleep) "+sleep+" && chmod 711 "+sleep).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	asNobody := func(args ...string) *exec.Cmd {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		return cmd
	}
	holder := asNobody(sleep, "1000")
	holder.Env = []string{targetMark + "=1"}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Process.Kill(); _ = holder.Wait() }()
	script := strings.Replace(findRoot, "root=/target", "root=/nowhere", 1)
	out, err := asNobody("sh", "-c", script, "sh", "echo", "@ROOT@").CombinedOutput()
	if err == nil || !strings.HasPrefix(string(out), "error: ") || !strings.Contains(string(out), "--share=image") || strings.Count(string(out), "\n") != 1 {
		t.Errorf("%v: %s", err, out)
	}
}

func TestBuildID(t *testing.T) {
	if id := buildID("/proc/self/exe"); id != "" && len(id) < 16 {
		t.Errorf("of this test: %q", id)
	}
	want, err := exec.Command("sh", "-c", "readelf -n /bin/sh | sed -n 's/.*Build ID: //p'").Output()
	if err != nil || len(want) == 0 {
		required.Missing(t, "no readelf (binutils)")
	}
	if id := buildID("/bin/sh"); id != strings.TrimSpace(string(want)) {
		t.Errorf("of /bin/sh: %q, readelf says %q", id, want)
	}
}
