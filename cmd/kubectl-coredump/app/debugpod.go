// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// The rights that a debug pod needs beside that to the core. The role is one that Kubernetes brings along: who may make pods and exec into them is
// nothing that an API of core dumps should give away.
var podRights = []right{
	{verb: "create", resource: "pods", role: "edit"}, {verb: "get", resource: "pods", role: "edit"}, {verb: "delete", resource: "pods", role: "edit"},
	{verb: "create", resource: "pods", subresource: "exec", role: "edit"},
}

// share decides how the debugger sees the crashed image.
func (d *downloader) share(o debugOptions) string {
	if o.root != "auto" {
		return o.root
	}
	v, err := d.core.Discovery().ServerVersion()
	if err == nil {
		if minor, err := strconv.Atoi(strings.TrimRight(v.Minor, "+")); err == nil && minor < imageVolumes {
			return "process"
		}
	}
	return "image"
}

// pullSecrets are those that the crashed pod was pulled with, while it exists.
func (d *downloader) pullSecrets(ctx context.Context, dump *v1alpha1.CoreDump) (names []string) {
	pod, err := d.core.CoreV1().Pods(d.namespace).Get(ctx, dump.Spec.PodName, metav1.GetOptions{})
	if err != nil || string(pod.UID) != dump.Spec.PodUID {
		return nil
	}
	for _, s := range pod.Spec.ImagePullSecrets {
		names = append(names, s.Name)
	}
	return names
}

// findRoot is a script that sets root to where the crashed image is, and runs the rest of its arguments with @ROOT@ replaced in them. The kernel shows environment
// and root of a process to others of the same user with no less capabilities (ptrace(2), "Ptrace access mode checking", PTRACE_MODE_READ), unless that process runs
// a file that its user may not read, or a security module says no. Yama does not: it is about attaching.
const findRoot = `root=/target
if [ ! -e "$root" ]; then
  root=
  for e in /proc/[0-9]*/environ; do
    if tr '\0' '\n' <"$e" | grep -q '^COREDUMP_DEBUG_TARGET=1$'; then root=${e%/environ}/root; fi
  done 2>/dev/null
  if [ -z "$root" ]; then
    echo "error: the kernel does not let the debugger look at the root of the container target. --share=image needs no such right" >&2
    exit 1
  fi
fi
n=$#
while [ "$n" -gt 0 ]; do
  a=$1; shift
  case $a in *@ROOT@*) a=${a%%@ROOT@*}$root${a#*@ROOT@};; esac
  set -- "$@" "$a"; n=$((n-1))
done
exec "$@"`

func (d *downloader) debugInPod(ctx context.Context, dump *v1alpha1.CoreDump, o debugOptions) (err error) {
	image := imageOf(dump)
	if image == "" {
		return fmt.Errorf("the record does not know the image of %s: debug here, with --executable", dump.Name)
	}
	if err := d.need(ctx, d.namespace, podRights...); err != nil {
		return err
	}
	program := o.program
	if program == "" {
		program = dump.Spec.Process.Executable
	}
	executable := ""
	switch {
	case path.IsAbs(program):
		executable = "@ROOT@" + path.Clean(program)
	case o.debugger == "delve":
		return usage("delve opens no core without its executable, and the record has no path of it: say it with --program")
	default:
		fmt.Fprintf(d.app.ErrOut, "warning: the record has no path of the executable: say it with --program\n")
	}
	o.secrets = append(slices.Clone(o.secrets), d.pullSecrets(ctx, dump)...)
	share := d.share(o)
	pods := d.core.CoreV1().Pods(d.namespace)
	pod, err := pods.Create(ctx, debugPod(dump, image, share, o), metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("make debug pod: %w", err)
	}
	fmt.Fprintf(d.app.ErrOut, "pod %s: %s, debugger %s\n", pod.Name, text(image), o.image)
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
		defer cancel()
		if e := pods.Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); e != nil {
			err = errors.Join(err, fmt.Errorf("the debug pod is left: kubectl delete pod %s -n %s: %w", pod.Name, d.namespace, e))
		}
	}()
	if err := d.running(ctx, pod.Name, o.wait, helps(share, o)); err != nil {
		return err
	}
	if err := d.send(ctx, dump, pod.Name); err != nil {
		return fmt.Errorf("send the core to the debug pod: %w", err)
	}
	args := commandLine(o.debugger, "@ROOT@", executable, coreDir+"/core", o.extra)
	exec := d.kubectl("exec", "-i", "-n", d.namespace, pod.Name, "-c", debugContainer)
	if d.app.Terminal(d.app.Out) {
		exec = append(exec, "-t")
	}
	exec = append(exec, "--", "sh", "-c", findRoot, "sh")
	// On a terminal Ctrl-C is a byte, which is the debugger's. So a signal is from somebody who wants the end.
	err = d.app.Exec(ctx, Program{Args: append(exec, args...), In: d.app.In, Out: d.app.Out, Err: d.app.ErrOut})
	if ctx.Err() != nil {
		return ctx.Err() // and not that kubectl was ended
	}
	return ended(err)
}

// helps is what may help where the pod does not run.
func helps(share string, o debugOptions) string {
	if share == "image" {
		return "The debugger image needs sh and sleep. Where the container runtime cannot mount images (containerd before 2.1), use --share=process."
	}
	return fmt.Sprintf("The debugger image needs sh and sleep, and the crashed image %q: say with --hold-command what in it runs for long, or use --share=image.", strings.Join(o.hold, " "))
}

// messageSize bounds what a container runtime says. It begins with which part of it called which other part; the reason is at the end.
const messageSize = 1000

// running waits until the containers of the pod run. Where they do not, its error says what helps.
func (d *downloader) running(ctx context.Context, name string, wait time.Duration, helps string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("the debug pod does not run after %s", wait))
	defer cancel()
	why := ""
	for {
		pod, err := d.core.CoreV1().Pods(d.namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			var ready bool
			if ready, why, err = state(pod); err != nil {
				return fmt.Errorf("%w\n%s", err, helps)
			}
			if ready {
				return nil
			}
		}
		select {
		case <-time.After(min(time.Second, d.app.Poll)):
		case <-ctx.Done():
			return fmt.Errorf("%w%s\n%s", context.Cause(ctx), unless("", ": ", line(why, messageSize), ""), helps)
		}
	}
}

// state tells whether all containers run, and why not. An error is one that waiting does not help against.
func state(pod *corev1.Pod) (ready bool, why string, err error) {
	ready = len(pod.Status.ContainerStatuses) == len(pod.Spec.Containers)
	for _, c := range pod.Status.ContainerStatuses {
		switch {
		case c.State.Terminated != nil:
			return false, "", fmt.Errorf("container %s of the debug pod ended with %d: %s", c.Name, c.State.Terminated.ExitCode, line(c.State.Terminated.Reason+" "+c.State.Terminated.Message, messageSize))
		case c.State.Waiting != nil:
			ready, why = false, c.Name+": "+c.State.Waiting.Reason+" "+c.State.Waiting.Message
		case c.State.Running == nil:
			ready = false
		}
	}
	if pod.Status.Phase == corev1.PodFailed {
		return false, "", fmt.Errorf("the debug pod failed: %s", text(pod.Status.Reason+" "+pod.Status.Message))
	}
	return ready, why, nil
}

var errTakesNoMore = errors.New("the pod takes no more")

// send streams the core into the pod, and compares what arrived.
func (d *downloader) send(ctx context.Context, dump *v1alpha1.CoreDump, pod string) error {
	exec := d.kubectl("exec", "-i", "-n", d.namespace, pod, "-c", debugContainer, "--")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	streamed := make(chan error, 1)
	go func() {
		err := d.stream(ctx, dump, w)
		_ = w.CloseWithError(err) // a clean end for nil
		streamed <- err
	}()
	err := d.app.Exec(ctx, Program{Args: append(exec, "sh", "-c", "cat >"+coreDir+"/core"), In: r, Out: d.app.ErrOut, Err: d.app.ErrOut})
	_ = r.CloseWithError(errTakesNoMore)
	if e := <-streamed; e != nil && !errors.Is(e, errTakesNoMore) { // where the pod failed, streaming into it failed for that
		err = e
	}
	if err != nil {
		return err
	}
	var sum strings.Builder
	if err := d.app.Exec(ctx, Program{Args: append(d.kubectl("exec", "-n", d.namespace, pod, "-c", debugContainer, "--"), "sha256sum", coreDir+"/core"), Out: &sum, Err: d.app.ErrOut}); err != nil {
		return err
	}
	if got, _, _ := strings.Cut(sum.String(), " "); got != dump.Status.SHA256 {
		return fmt.Errorf("the core in the pod has the SHA-256 %.64q", got)
	}
	return nil
}

// kubectl is the command line of kubectl with the flags that say which cluster and which user.
func (d *downloader) kubectl(args ...string) []string {
	c := d.app.Config
	cmd := []string{"kubectl"}
	for _, f := range []struct {
		name  string
		value *string
	}{
		{"kubeconfig", c.KubeConfig}, {"context", c.Context}, {"cluster", c.ClusterName}, {"user", c.AuthInfoName}, {"server", c.APIServer},
		{"tls-server-name", c.TLSServerName}, {"certificate-authority", c.CAFile}, {"client-certificate", c.CertFile}, {"client-key", c.KeyFile},
		{"token", c.BearerToken}, {"as", c.Impersonate}, {"as-uid", c.ImpersonateUID},
	} {
		if f.value != nil && *f.value != "" {
			cmd = append(cmd, "--"+f.name+"="+*f.value)
		}
	}
	if c.ImpersonateGroup != nil {
		for _, g := range *c.ImpersonateGroup {
			cmd = append(cmd, "--as-group="+g)
		}
	}
	if c.Insecure != nil && *c.Insecure {
		cmd = append(cmd, "--insecure-skip-tls-verify")
	}
	return append(cmd, args...)
}
