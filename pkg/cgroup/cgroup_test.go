// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

const (
	uid   = "87a18a64-b74a-454a-b10b-a4a36059d0a3"
	under = "87a18a64_b74a_454a_b10b_a4a36059d0a3"
	hash  = "b1e89a2fcc688644de3eb95aee8025ce"
	ctr   = "05c48c82caff3be3d7f1e896981dd410e81487538936914f32b624d168de9db0"

	otherUID   = "11111111-2222-3333-4444-555555555555"
	otherUnder = "11111111_2222_3333_4444_555555555555"
	otherCtr   = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
)

// shapes are cgroups of containers as runtimes make them.
var shapes = []struct {
	name, path string
	want       ID
}{
	{"containerd, systemd, guaranteed", "/kubepods.slice/kubepods-pod" + under + ".slice/cri-containerd-" + ctr + ".scope", ID{uid, ctr, Guaranteed, Systemd, Containerd, ""}},
	{"containerd, systemd, burstable", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice/cri-containerd-" + ctr + ".scope", ID{uid, ctr, Burstable, Systemd, Containerd, ""}},
	{"containerd, systemd, best effort", "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + under + ".slice/cri-containerd-" + ctr + ".scope", ID{uid, ctr, BestEffort, Systemd, Containerd, ""}},
	{"containerd, cgroupfs, guaranteed", "/kubepods/pod" + uid + "/" + ctr, ID{uid, ctr, Guaranteed, Cgroupfs, "", ""}},
	{"containerd, cgroupfs, burstable", "/kubepods/burstable/pod" + uid + "/" + ctr, ID{uid, ctr, Burstable, Cgroupfs, "", ""}},
	{"containerd, cgroupfs, best effort", "/kubepods/besteffort/pod" + uid + "/" + ctr, ID{uid, ctr, BestEffort, Cgroupfs, "", ""}},
	{"static pod, systemd", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + hash + ".slice/cri-containerd-" + ctr + ".scope", ID{hash, ctr, Burstable, Systemd, Containerd, ""}},
	{"static pod, cgroupfs", "/kubepods/burstable/pod" + hash + "/" + ctr, ID{hash, ctr, Burstable, Cgroupfs, "", ""}},
	{"cri-o, systemd", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice/crio-" + ctr + ".scope", ID{uid, ctr, Burstable, Systemd, CRIO, ""}},
	{"cri-o, cgroupfs", "/kubepods/burstable/pod" + uid + "/crio-" + ctr, ID{uid, ctr, Burstable, Cgroupfs, CRIO, ""}},
	{"docker, systemd", "/kubepods.slice/kubepods-pod" + under + ".slice/docker-" + ctr + ".scope", ID{uid, ctr, Guaranteed, Systemd, Docker, ""}},
	{"docker, cgroupfs", "/kubepods/besteffort/pod" + uid + "/" + ctr, ID{uid, ctr, BestEffort, Cgroupfs, "", ""}},
	{"docker without scopes", "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + under + ".slice/" + ctr, ID{uid, ctr, BestEffort, Systemd, "", ""}},
	{"podman", "/kubepods.slice/kubepods-pod" + under + ".slice/libpod-" + ctr + ".scope", ID{uid, ctr, Guaranteed, Systemd, Podman, ""}},
	{"a kubelet that uses systemd's names, a runtime that does not", "/system.slice/containerd.service/kubepods-burstable-pod" + under + ".slice:cri-containerd:" + ctr, ID{uid, ctr, Burstable, Cgroupfs, Containerd, ""}},
	{"the same at the root", "/kubepods-besteffort-pod" + under + ".slice:cri-containerd:" + ctr, ID{uid, ctr, BestEffort, Cgroupfs, Containerd, ""}},
	{"the same without .slice", "/kuberuntime/containerd/kubepods-pod" + under + ":cri-containerd:" + ctr, ID{uid, ctr, Guaranteed, Cgroupfs, Containerd, ""}},
	{"the same of cri-o", "/system.slice/crio.service/kubepods-pod" + hash + ".slice:crio:" + ctr, ID{hash, ctr, Guaranteed, Cgroupfs, CRIO, ""}},
	{"kubelet with a root of its own, systemd", "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + under + ".slice/cri-containerd-" + ctr + ".scope", ID{uid, ctr, Burstable, Systemd, Containerd, ""}},
	{"kubelet with a root of its own, guaranteed", "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + hash + ".slice/cri-containerd-" + ctr + ".scope", ID{hash, ctr, Guaranteed, Systemd, Containerd, ""}},
	{"kubelet with a root of its own, cgroupfs", "/kubelet/kubepods/burstable/pod" + uid + "/" + ctr, ID{uid, ctr, Burstable, Cgroupfs, "", ""}},
	{"kind, cgroup v1", "/docker/" + otherCtr + "/kubelet/kubepods/burstable/pod" + uid + "/" + ctr, ID{uid, ctr, Burstable, Cgroupfs, "", ""}},
	{"kind, cgroup v2", "/system.slice/docker-" + otherCtr + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + under + ".slice/cri-containerd-" + ctr + ".scope", ID{uid, ctr, Guaranteed, Systemd, Containerd, ""}},
}

func TestEveryShapeOfAContainerIsRead(t *testing.T) {
	for _, s := range shapes {
		s.want.Path = s.path
		for form, text := range map[string]string{
			"v2":                  "0::" + s.path + "\n",
			"no newline":          "0::" + s.path,
			"removed":             "0::" + s.path + " (deleted)\n",
			"v1":                  "12:pids:" + s.path + "\n11:cpu,cpuacct:" + s.path + "\n1:name=systemd:" + s.path + "\n",
			"v1, some unused":     "13:rdma:/\n12:misc:/\n11:memory:" + s.path + "\n",
			"hybrid, v2 unused":   "11:memory:" + s.path + "\n1:name=systemd:" + s.path + "\n0::/\n",
			"hybrid, v2 of a svc": "11:memory:" + s.path + "\n0::/system.slice/containerd.service\n",
		} {
			got, err := Parse(text)
			if err != nil || got != s.want {
				t.Errorf("%s, %s: %+v, %v", s.name, form, got, err)
			}
		}
		for _, below := range []string{"/init.scope", "/container", "/a/b", "/system.slice/docker-" + otherCtr + ".scope"} {
			if got, err := Parse("0::" + s.path + below + "\n"); err != nil || got != s.want {
				t.Errorf("%s, %s below: %+v, %v", s.name, below, got, err)
			}
		}
	}
}

func TestTheHostsOwnIsOfNoPod(t *testing.T) {
	for _, text := range []string{
		"0::/\n",
		"0::/init.scope\n",
		"0::/system.slice/kubelet.service\n",
		"0::/system.slice/containerd.service\n",
		"0::/system.slice/docker-" + ctr + ".scope\n",
		"12:pids:/user.slice/user-1000.slice/session-1.scope\n1:name=systemd:/user.slice/user-1000.slice/session-1.scope\n0::/user.slice\n",
		"0::/machine.slice/libpod-" + ctr + ".scope/container\n",
		"0::/k8s.io/" + ctr + "\n",
		// The monitors of containers, beside them.
		"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice/crio-conmon-" + ctr + ".scope\n",
		"0::/kubepods/pod" + uid + "/crio-conmon-" + ctr + "\n",
		"0::/system.slice/crio-conmon-" + ctr + ".scope\n",
		// Whoever may log in makes cgroups there.
		"0::/user.slice/user-1000.slice/user@1000.service/kubepods/pod" + uid + "/" + ctr + "\n",
	} {
		if id, err := Parse(text); !errors.Is(err, ErrNoPod) || errors.Is(err, ErrUnclear) || id != (ID{}) {
			t.Errorf("%q: %+v, %v", text, id, err)
		}
	}
}

func TestWhatDoesNotTellIsNotTheHosts(t *testing.T) {
	pod := "/kubepods.slice/kubepods-pod" + under + ".slice"
	for _, text := range []string{
		"", "\n", "0::", "0:/x", "x::/\n", "::/\n", "0::x\n", "0::/\n\n0::/\n", "\x00", "-1::/\n",
		"0::/system.slice\nrubbish\n",
		"0::/kubepods\n", "0::/kubepods.slice\n", "0::/kubepods/burstable\n", "0::/kubepods.slice/kubepods-burstable.slice\n",
		"0::/kubepods/pod" + uid + "\n", "0::" + pod + "\n",
		"0::/kubepods/pod" + under + "/" + ctr + "\n",
		"0::/kubepods/pod" + strings.ToUpper(uid) + "/" + ctr + "\n",
		"0::/kubepods/pod" + uid + "x/" + ctr + "\n",
		"0::/kubepods/guaranteed/pod" + uid + "/" + ctr + "\n",
		"0::/kubepods/" + uid + "/" + ctr + "\n",
		"0::/kubepods/burstable/burstable/pod" + uid + "/" + ctr + "\n",
		"0::" + pod + "/cri-containerd-" + ctr[1:] + ".scope\n",
		"0::" + pod + "/evil-" + ctr + ".scope\n",
		"0::" + pod + "/kata_overhead\n",
		"0::" + pod + "/docker-" + ctr + ".scope.d\n",
		"0::/kubepods.slice/kubepods-burstable-pod" + under + ".slice/cri-containerd-" + ctr + ".scope\n",
		"0::/kubepods.slice/kubepods-burstable.slice/kubepods-besteffort-pod" + under + ".slice/cri-containerd-" + ctr + ".scope\n",
		"0::/a.slice/b-kubepods.slice/b-kubepods-pod" + under + ".slice/cri-containerd-" + ctr + ".scope\n",
		"0::/x/my-kubepods/pod" + uid + "/" + ctr + "\n",
		"0::/kubepods-pod" + under + ".slice:evil:" + ctr + "\n",
		"0::/kubepods-pod" + under + ".slice:crio:" + ctr + ":x\n",
		"0::/kubepods-" + under + ".slice:crio:" + ctr + "\n",
		"0::/x" + strings.Repeat("/y", MaxText),
	} {
		if id, err := Parse(text); !errors.Is(err, ErrUnclear) || errors.Is(err, ErrNoPod) || id != (ID{}) {
			t.Errorf("%.100q: %+v, %v", text, id, err)
		}
	}
}

func TestHierarchiesThatContradictEachOtherTellNothing(t *testing.T) {
	a, b, c := "/kubepods/pod"+uid+"/"+ctr, "/kubepods/pod"+otherUID+"/"+ctr, "/kubepods/pod"+uid+"/"+otherCtr
	for _, other := range []string{b, c} {
		if id, err := Parse("2:pids:" + a + "\n1:memory:" + other + "\n"); !errors.Is(err, ErrUnclear) {
			t.Errorf("%+v, %v", id, err)
		}
	}
}

// Names of cgroups that a tenant chooses stand below the container's own: they change nothing.
func TestP3_AForgedCgroupBelowOnesOwnChangesNothing(t *testing.T) {
	forged := []string{
		"/kubepods/pod" + otherUID + "/" + otherCtr,
		"/kubepods.slice/kubepods-pod" + otherUnder + ".slice/cri-containerd-" + otherCtr + ".scope",
		"/cri-containerd-" + otherCtr + ".scope",
		"/crio-conmon-" + otherCtr + ".scope",
		"/kubepods-pod" + otherUnder + ".slice:cri-containerd:" + otherCtr,
		"/../pod" + otherUID + "/" + otherCtr,
		"/user.slice", "/..", "/x:0::/", "/ (deleted)",
	}
	for _, s := range shapes {
		for _, f := range forged {
			s.want.Path = s.path
			if id, err := Parse("0::" + s.path + f + "\n"); err != nil || id != s.want {
				t.Errorf("%s with %s below: %+v, %v", s.name, f, id, err)
			}
		}
	}
}

// From a private cgroup namespace other cgroups are seen as /..: such a path names any pod that a tenant likes.
func TestP3_APathThatIsNotSeenFromTheRootTellsNothing(t *testing.T) {
	for _, path := range []string{"/..", "/../..", "/../pod" + uid + "/" + ctr, "/../kubepods/pod" + uid + "/" + ctr, "/../../../kubepods.slice/kubepods-pod" + under + ".slice/crio-" + ctr + ".scope"} {
		for _, text := range []string{"0::" + path + "\n", "2:memory:/kubepods/pod" + uid + "/" + ctr + "\n0::" + path + "\n"} {
			if id, err := Parse(text); !errors.Is(err, ErrUnclear) || errors.Is(err, ErrNoPod) {
				t.Errorf("%q: %+v, %v", text, id, err)
			}
		}
	}
}

// A path so long that the text was cut must neither become the host's nor another pod's.
func TestP3_ACutTextTellsNoOther(t *testing.T) {
	for _, s := range shapes {
		s.want.Path = s.path
		text := "9:pids:" + s.path + "/" + strings.Repeat("x", 200) + "\n1:memory:" + s.path + "/a\n"
		for n := range len(text) {
			id, err := Parse(text[:n])
			if err == nil && (id.PodUID != s.want.PodUID || id.ContainerID != s.want.ContainerID) {
				t.Fatalf("%s, cut to %q: %+v", s.name, text[:n], id)
			}
			if n > len("9:pids:"+s.path)+200 && err != nil {
				t.Fatalf("%s, cut to %q: %v", s.name, text[:n], err)
			}
		}
	}
}

func TestAnyUIDComesBack(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	hex := func(n int) string {
		var b strings.Builder
		for range n {
			fmt.Fprintf(&b, "%x", random.IntN(16))
		}
		return b.String()
	}
	for range 2000 {
		u := strings.Join([]string{hex(8), hex(4), hex(4), hex(4), hex(12)}, "-")
		c := hex(64)
		s := shapes[random.IntN(len(shapes))]
		if s.want.PodUID == hash {
			u = hex(32)
		}
		path := strings.NewReplacer(ctr, c, uid, u, under, strings.ReplaceAll(u, "-", "_"), hash, u).Replace(s.path)
		if id, err := Parse("0::" + path + "\n"); err != nil || id.PodUID != u || id.ContainerID != c || id.Path != path {
			t.Fatalf("%s: %+v, %v", path, id, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range shapes {
		f.Add("0::" + s.path + "\n")
		f.Add("2:pids:" + s.path + "/x\n1:name=systemd:" + s.path + "\n0::/\n")
	}
	f.Add("0::/../pod" + uid + "/" + ctr + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := Parse(text)
		if err != nil {
			if id != (ID{}) || errors.Is(err, ErrNoPod) == errors.Is(err, ErrUnclear) {
				t.Fatalf("%+v, %v", id, err)
			}
			return
		}
		if !isContainerID(id.ContainerID) || len(id.PodUID) != 36 && len(id.PodUID) != 32 || strings.Trim(id.PodUID, "0123456789abcdef-") != "" {
			t.Fatalf("%+v", id)
		}
		if !strings.Contains(id.Path, "kubepods") || !strings.HasSuffix(strings.TrimSuffix(id.Path, ".scope"), id.ContainerID) || strings.Contains(id.Path, "\n") || strings.HasPrefix(id.Path, "/../") {
			t.Fatalf("%+v", id)
		}
		// The container's own path alone says the same, whatever is put below it.
		for _, below := range []string{"", "/kubepods/pod" + otherUID + "/" + otherCtr} {
			if again, err := Parse("0::" + id.Path + below + "\n"); err != nil || again != id {
				t.Fatalf("%+v, then %+v, %v", id, again, err)
			}
		}
		// A text that names it after another container says nothing.
		other := "7:x:/kubepods/pod" + otherUID + "/" + otherCtr + "\n"
		if id.PodUID != otherUID {
			if _, err := Parse(other + "0::" + id.Path + "\n"); !errors.Is(err, ErrUnclear) {
				t.Fatal(err)
			}
		}
	})
}
