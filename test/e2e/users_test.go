// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

func TestUsersLearnWhatCrashed(t *testing.T) {
	f := &shared
	f.enter(t, pipe)
	ns := f.namespace(t, "told")
	user := f.user(t, ns)

	t.Run("kubectl describe says it in a sentence, and an Event on the pod has the name of the dump", func(t *testing.T) {
		d := f.awaitDump(t, pipe, user, f.create(t, pipe, crashing(ns, "described", "/crash", "-t", "14")))
		want := regexp.MustCompile(`SIGSEGV \(address not mapped\) at 0x0 in /crash\+0x[0-9a-f]+ \(build-id [0-9a-f]{8}\.\.\.\), thread [0-9]+ of 14\b`)
		if out := f.kubectl(t, user, "describe", "coredump", "-n", ns, d.Name); !want.MatchString(out) {
			t.Errorf("no %s in\n%s", want, out)
		}
		await(t, func(ctx context.Context) error {
			out, err := f.cluster.Kubectl(ctx, f.cluster.Admin, "describe", "pod", "-n", ns, "described")
			if err == nil && !(strings.Contains(string(out), "CoreDumpCaptured") && strings.Contains(string(out), d.Name)) {
				err = fmt.Errorf("no Event CoreDumpCaptured with %s in\n%s", d.Name, out)
			}
			return err
		})
	})
	t.Run("the archive has what the node knew of pod, container and process, and no secrets of its environment", func(t *testing.T) {
		const secret = "s3cr3t-of-the-environment"
		pod := crashing(ns, "context", "/crash", "-m", "8")
		pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "PASSWORD", Value: secret}}
		files := f.context(t, user, f.awaitDump(t, pipe, user, f.create(t, pipe, pod)))
		for name, has := range map[string]string{
			"pod.json": `"PASSWORD"`, "container.json": container, "log.txt": "about to crash",
			"proc/maps": "/crash", "proc/status": "crash", "proc/limits": "Max core file size", "proc/mountinfo": " / ",
		} {
			if content, there := files[name]; !there || !strings.Contains(content, has) {
				t.Errorf("%s (there: %v) has no %q:\n%s", name, there, has, content)
			}
		}
		for name, content := range files {
			if strings.Contains(content, secret) || strings.HasSuffix(name, "environ") {
				t.Errorf("%s has the environment:\n%s", name, content)
			}
		}
	})
	t.Run("what repeats itself is kept three times, and the rest counted, with one Event", func(t *testing.T) {
		before := f.metrics(t)
		pod := f.create(t, pipe, crashing(ns, "repeated", "/crash", "-c", "20", "-p", "20"))
		f.awaitPod(t, ns, "repeated", ended)
		f.awaitCount(t, before, `coredump_nodehandler_suppressed_total{namespace="told",reason="repeated"}`, 17)
		f.awaitCount(t, before, `coredump_nodehandler_captured_total{namespace="told"}`, 3)
		await(t, func(ctx context.Context) error { return f.event(ctx, ns, "repeated", "CoreDumpSuppressed") })
		f.awaitDumps(t, user, pod, 3)
		if n := f.countEvents(t, pod, "CoreDump"); n > 4 {
			t.Errorf("%d Events of 20 crashes, want one for each of three dumps and one for the others", n)
		}
	})
	t.Run("a pod that allows two dumps an hour has two", func(t *testing.T) {
		before := f.metrics(t)
		pod := crashing(ns, "two", "/crash", "-c", "4")
		pod.Annotations = map[string]string{"coredump.example.io/max-per-hour": "2"}
		pod = f.create(t, pipe, pod)
		f.awaitPod(t, ns, "two", ended)
		f.awaitCount(t, before, `coredump_nodehandler_suppressed_total{namespace="told",reason="rate-limit"}`, 2)
		f.awaitDumps(t, user, pod, 2)
	})
	t.Run("a dump over the pod's limit is cut, and says so in record and Event", func(t *testing.T) {
		pod := crashing(ns, "cut", "/crash", "-m", "64")
		pod.Annotations = map[string]string{"coredump.example.io/max-size": "8Mi"}
		pod = f.create(t, pipe, pod)
		d := f.awaitDump(t, pipe, user, pod)
		if s := d.Status; !s.Truncated || s.Size != 8<<20 || s.PromisedSize < 64<<20 || !strings.Contains(s.TruncatedReason, "limit") {
			t.Errorf("%+v: want 8 MiB of more than 64, and the reason", s)
		}
		await(t, func(ctx context.Context) error { return f.event(ctx, ns, "cut", "CoreDumpTruncated") })
		// What there is tells what happened.
		into := f.unpack(t, user, d)
		if out := gdb(t, program("crash"), core{path: find(t, into)}, "bt"); !strings.Contains(out, "SIGSEGV") {
			t.Errorf("gdb does not know the signal of the cut core:\n%s", out)
		}
	})
	t.Run("a copy is where the pod wants it, and other containers of the pod read it", func(t *testing.T) { copies(t, ns, user) })
}

// copies: the annotation core-pattern puts a copy into a volume of the pod; a second container reads it, and one that is added to the pod afterwards.
func copies(t *testing.T, ns, user string) {
	f := &shared
	const shared = "/dumps"
	pod := distroless(crashing(ns, "copied", "/crash", "-m", "8", "-t", "4"))
	pod.Annotations = map[string]string{"coredump.example.io/core-pattern": shared + "/core-%e-%p"}
	pod.Spec.Volumes = []corev1.Volume{{Name: "dumps", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	mount := []corev1.VolumeMount{{Name: "dumps", MountPath: shared}}
	pod.Spec.Containers[0].VolumeMounts = mount
	reader := pod.Spec.Containers[0]
	reader.Name, reader.Command = "reader", []string{"/reader", shared + "/core-*"}
	pod.Spec.Containers = append(pod.Spec.Containers, reader)
	pod = f.create(t, pipe, pod)
	d := f.awaitDump(t, pipe, user, pod)
	want := fmt.Sprintf("%s %d\n", d.Status.SHA256, d.Status.Size)
	reads := func(name string) {
		t.Helper()
		await(t, func(ctx context.Context) error {
			out, err := f.cluster.Kubectl(ctx, f.cluster.Admin, "logs", "-n", ns, pod.Name, "-c", name)
			if err == nil && !strings.Contains(string(out), want) {
				err = fmt.Errorf("%s read %q, want %q", name, out, want)
			}
			return err
		})
	}
	reads("reader")

	now, err := f.client(t).CoreV1().Pods(ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	now.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: "later", Image: crashImage, ImagePullPolicy: corev1.PullNever, Command: reader.Command, VolumeMounts: mount, SecurityContext: reader.SecurityContext,
	}}}
	if _, err := f.client(t).CoreV1().Pods(ns).UpdateEphemeralContainers(t.Context(), pod.Name, now, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	reads("later")
	f.admin(t, "delete", "pod", "-n", ns, pod.Name, "--wait=false")
}

func TestDumpsAreTakenOfThoseAloneWhoWantThem(t *testing.T) {
	f := &shared
	t.Run("a namespace opts out, and a pod in it in again", func(t *testing.T) {
		f.enter(t, pipe)
		f.wanted(t, "out", "disabled", "enabled")
	})
	t.Run("with --capture-default=disabled a namespace opts in, and a pod in it out again", func(t *testing.T) {
		f.enter(t, pipe.with("--capture-default=disabled"))
		f.wanted(t, "in", "enabled", "disabled")
		ns := f.namespace(t, "says-nothing")
		user := f.user(t, ns)
		before := f.metrics(t)
		pod := f.create(t, pipe, crashing(ns, "silent", "/crash"))
		f.awaitPod(t, ns, "silent", ended)
		f.awaitCount(t, before, `coredump_nodehandler_captures_total{mode="pipe",result="suppressed"}`, 1)
		f.awaitDumps(t, user, pod, 0)
	})
}

// wanted: a namespace with a label has dumps or has none, and a pod in it with the annotation of another value is the other way.
func (f *fixture) wanted(t *testing.T, name, label, annotation string) {
	t.Helper()
	const key = "coredump.example.io/capture"
	ns := f.namespace(t, "opted-"+name)
	user := f.user(t, ns)
	f.admin(t, "label", "namespace", ns, key+"="+label)
	before := f.metrics(t)
	as := f.create(t, pipe, crashing(ns, "as-the-namespace", "/crash"))
	otherwise := crashing(ns, "otherwise", "/crash")
	otherwise.Annotations = map[string]string{key: annotation}
	otherwise = f.create(t, pipe, otherwise)
	f.awaitPod(t, ns, as.Name, ended)
	f.awaitPod(t, ns, otherwise.Name, ended)
	with, without := otherwise, as
	if label == "enabled" {
		with, without = as, otherwise
	}
	f.awaitDump(t, pipe, user, with)
	f.awaitCount(t, before, `coredump_nodehandler_captures_total{mode="pipe",result="suppressed"}`, 1)
	f.awaitDumps(t, user, without, 0)
	if n := f.countEvents(t, without, "CoreDump"); n > 0 {
		t.Errorf("%d Events on a pod that wants no dumps", n)
	}
}

// context are the files of a dump's archive beside the core, by their names in the bundle.
func (f *fixture) context(t *testing.T, config string, d v1alpha1.CoreDump) map[string]string {
	t.Helper()
	into := f.unpack(t, config, d)
	cored := find(t, into)
	files := map[string]string{}
	err := filepath.WalkDir(into, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || path == cored {
			return err
		}
		content, err := os.ReadFile(path)
		name := filepath.Base(path)
		if filepath.Base(filepath.Dir(path)) == "proc" {
			name = "proc/" + name
		}
		files[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// unpack downloads a dump and unpacks it into a new directory.
func (f *fixture) unpack(t *testing.T, config string, d v1alpha1.CoreDump) string {
	t.Helper()
	into := t.TempDir()
	cmd := f.cluster.Command(t.Context(), config, "get", "--raw", api+"/namespaces/"+d.Namespace+"/coredumps/"+d.Name+"/dump")
	tar := exec.CommandContext(t.Context(), "tar", "-xzf", "-", "-C", into)
	var err error
	if tar.Stdin, err = cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr, tar.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	err = tar.Run()
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Fatalf("download %s: %v\n%s", d.Name, err, &said)
	}
	return into
}
