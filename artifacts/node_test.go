// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package artifacts

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	nodehandler "example.io/coredump/cmd/nodehandler/app"
	"example.io/coredump/pkg/capture/host"
)

// componentsOfNodes are those that change the node handler.
var componentsOfNodes = []string{"capture-socket", "capture-file", "node-setup", "cri-o", "cri-dockerd", "suid-dumpable", "selinux"}

// mounts are the directories of the host that a container has: the path there, the path here, and "ro" where it is read only.
func mounts(spec *corev1.PodSpec, c *corev1.Container) (list []string) {
	for _, m := range c.VolumeMounts {
		for _, v := range spec.Volumes {
			if v.Name != m.Name {
				continue
			}
			text := fmt.Sprintf("%s %s", v.HostPath.Path, m.MountPath)
			if m.ReadOnly {
				text += " ro"
			}
			list = append(list, text)
		}
	}
	slices.Sort(list)
	return list
}

// base is what mode pipe needs of the host, and nothing else.
var base = []string{
	"/opt/coredump /opt/coredump", "/proc/sys/kernel /host/proc/sys/kernel", "/run/containerd /run/containerd ro", "/var/coredump /var/coredump",
	"/var/log/pods /var/log/pods ro",
}

func checkMounts(t *testing.T, spec corev1.PodSpec) {
	t.Helper()
	if got := mounts(&spec, &spec.Containers[0]); !slices.Equal(got, base) || len(spec.Volumes) != len(base) {
		t.Errorf("mounts\n%q, want\n%q", got, base)
	}
	// Uploads compress. Beside other pods, the priority is the container's weight, which follows from what it requests (a nice value counts only within
	// a container); with a limit it would be throttled while nobody else wants the processor.
	r := spec.Containers[0].Resources
	if cpu := r.Requests.Cpu(); cpu.MilliValue() > 100 || !r.Limits.Cpu().IsZero() {
		t.Errorf("cpu: requests %v, limit %v", cpu, r.Limits.Cpu())
	}
}

func TestAComponentOfNodesChangesWhatItSaysAndNoMore(t *testing.T) {
	without := func(list []string, gone string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return strings.HasPrefix(s, gone+" ") })
	}
	with := func(list []string, more ...string) []string {
		list = append(slices.Clone(list), more...)
		slices.Sort(list)
		return list
	}
	caps := []corev1.Capability{"DAC_OVERRIDE", "FOWNER", "LEASE", "SETGID", "SETUID"}
	for _, tc := range []struct {
		components   []string
		mounts       []string
		capabilities []corev1.Capability
		args         []string
		hostPID      bool
		init         int
	}{
		{components: []string{"capture-socket"}, mounts: with(base, "/run/coredump /run/coredump"), args: []string{"--capture=socket"}, hostPID: true,
			capabilities: append(slices.Clone(caps), "SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE")},
		{components: []string{"capture-file"}, mounts: []string{"/var/coredump /var/coredump"}, args: []string{"--capture=file"}, capabilities: caps[:3]},
		{components: []string{"capture-file", "node-setup"}, mounts: []string{"/var/coredump /var/coredump"}, args: []string{"--capture=file"}, capabilities: caps[:3], init: 1},
		{components: []string{"cri-o"}, mounts: with(without(base, "/run/containerd"), "/run/crio /run/crio ro"), capabilities: caps},
		{components: []string{"cri-dockerd"}, mounts: with(without(base, "/run/containerd"), "/run /host/run ro"), capabilities: caps,
			args: []string{"--cri-endpoint=unix:///host/run/cri-dockerd.sock"}},
		{components: []string{"suid-dumpable"}, mounts: with(base, "/proc/sys/fs /host/proc/sys/fs"), capabilities: caps, args: []string{"--suid-dumpable=2"}},
		{components: []string{"selinux"}, mounts: base, capabilities: caps},
	} {
		t.Run(strings.Join(tc.components, "+"), func(t *testing.T) {
			spec := pod(t, build(t, "overlays/self-signed", tc.components...), "nodehandler").Spec
			c := &spec.Containers[0]
			if got := mounts(&spec, c); !slices.Equal(got, tc.mounts) || len(spec.Volumes) != len(tc.mounts) {
				t.Errorf("mounts\n%q, want\n%q", got, tc.mounts)
			}
			if got := c.SecurityContext.Capabilities.Add; !slices.Equal(got, tc.capabilities) {
				t.Errorf("capabilities %v, want %v", got, tc.capabilities)
			}
			for _, arg := range tc.args {
				if !slices.Contains(c.Args, arg) {
					t.Errorf("%s is not in %q", arg, c.Args)
				}
			}
			if c.Args[len(c.Args)-1] != "/var/coredump" {
				t.Errorf("arguments %q", c.Args)
			}
			if spec.HostPID != tc.hostPID || len(spec.InitContainers) != tc.init {
				t.Errorf("hostPID %v, %d init containers", spec.HostPID, len(spec.InitContainers))
			}
			if selinux := spec.SecurityContext.SELinuxOptions; (selinux != nil) != slices.Contains(tc.components, "selinux") {
				t.Errorf("SELinux: %v", selinux)
			}
		})
	}
}

func TestThePatchOfTheDocumentsMovesCorepipe(t *testing.T) {
	document, err := os.ReadFile("../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(patches:\n[^`]*--host-dir=([^}]*)}.*?)```").FindSubmatch(document)
	if block == nil {
		t.Fatal("no such patch in docs/install.md")
	}
	dir := string(block[2])
	spec := pod(t, buildWith(t, string(block[1]), "overlays/self-signed"), "nodehandler").Spec
	got := mounts(&spec, &spec.Containers[0])
	if !slices.Contains(got, dir+" "+dir) || len(got) != len(base) || slices.Contains(got, base[0]) || !slices.Contains(spec.Containers[0].Args, "--host-dir="+dir) {
		t.Errorf("mounts %q, arguments %q", got, spec.Containers[0].Args)
	}
	if _, err := host.PipePattern(dir + "/corepipe-0123456789ab"); err != nil {
		t.Error(err)
	}
}

// The directories of ours on the host can be removed only where those are mounted in which they are.
func TestUninstallHasTheParentsOfAllThatIsOnTheHost(t *testing.T) {
	spec := get[*appsv1.DaemonSet](t, build(t, "uninstall"), "coredump-uninstall").Spec.Template.Spec
	work, wait := spec.InitContainers[0], spec.Containers[0]
	cmd := nodehandler.NewCommand(t.Context())
	for _, c := range []corev1.Container{work, wait} {
		sub, args, err := cmd.Find(c.Args)
		if err != nil || sub.Name() != "uninstall" {
			t.Fatalf("%q: %v", c.Args, err)
		}
		if err := sub.ParseFlags(args); err != nil {
			t.Errorf("%q: %v", c.Args, err)
		}
		if err := sub.ValidateArgs(sub.Flags().Args()); (err == nil) != (c.Name == "uninstall" || c.Name == "wait") {
			t.Errorf("%q: %v", c.Args, err)
		}
		if len(c.SecurityContext.Capabilities.Add) != 0 || !*c.SecurityContext.ReadOnlyRootFilesystem {
			t.Errorf("%s: %v", c.Name, c.SecurityContext)
		}
		if !strings.HasPrefix(c.Image, "registry.example.io/coredump/nodehandler:") {
			t.Errorf("%s: image %s", c.Name, c.Image)
		}
	}
	have := mounts(&spec, &work)
	handler := pod(t, build(t, "overlays/self-signed", "capture-socket"), "nodehandler").Spec
	for _, m := range mounts(&handler, &handler.Containers[0]) {
		host, _, _ := strings.Cut(m, " ")
		if strings.HasSuffix(m, " ro") || strings.HasPrefix(host, "/proc/") {
			continue // it is not ours, or not a directory of the host
		}
		parent := path.Dir(host)
		if want := parent + " /host" + parent; !slices.Contains(have, want) {
			t.Errorf("%s cannot be removed: %q is not among %q", host, want, have)
		}
	}
	if len(wait.VolumeMounts) != 0 || spec.HostPID || *spec.AutomountServiceAccountToken {
		t.Errorf("who waits has mounts %v, hostPID %v, token %v", wait.VolumeMounts, spec.HostPID, *spec.AutomountServiceAccountToken)
	}
}
