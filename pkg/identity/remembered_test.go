// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// handler is a node handler from its start on; it ends with the function that it gives.
func handler(t *testing.T, file string, objects ...runtime.Object) (*cluster, func()) {
	t.Helper()
	c := &cluster{Clientset: fake.NewSimpleClientset(objects...)}
	c.Kubernetes = NewKubernetes(noWatchList{c.CoreV1()}, Place{NodeName: "n1", ClusterName: "prod"})
	if err := c.Remember(file); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	eventually(t, "the pods are known", c.Synced)
	return c, stop
}

func TestPodsAreRememberedOverARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pods.json")
	second := livePod(uid2, ctr2)
	second.Name = "web-1"
	c, stop := handler(t, file, teamNamespace(), livePod(uid1, ctr1), second)
	eventually(t, "their namespace is known", func() bool { return c.memory.byUID(uid1).ns != nil && c.memory.byUID(uid2).ns != nil })
	if err := c.CoreV1().Pods("team").Delete(t.Context(), "web-0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its deletion is known", func() bool { return !c.memory.byUID(uid1).deleted.IsZero() })
	stop()
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}

	// The second pod and the namespace went while nobody looked.
	c, _ = handler(t, file)
	eventually(t, "the second pod's deletion is known", func() bool { return !c.memory.byUID(uid2).deleted.IsZero() })
	w, err := locate(t, c.locator(nil), uid1, ctr1)
	known(t, w, err, FromAPI)
	if w.NamespaceUID != "ns-1" {
		t.Errorf("%+v", w)
	}
	if w, err := locate(t, c.locator(nil), uid2, ctr2); err != nil || w.Pod != "web-1" || w.NamespaceUID != "ns-1" {
		t.Errorf("%+v, %v", w, err)
	}
	if len(c.memory.gone) != 2 {
		t.Errorf("%d deleted pods", len(c.memory.gone))
	}
}

func TestAPodThatIsStillThereAfterARestartLives(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pods.json")
	_, stop := handler(t, file, teamNamespace(), livePod(uid1, ctr2))
	stop()
	c, stop := handler(t, file, teamNamespace(), livePod(uid1, ctr1))
	w, err := locate(t, c.locator(nil), uid1, ctr1)
	known(t, w, err, FromAPI)
	stop()
	if p := c.memory.byUID(uid1); !p.deleted.IsZero() || p.unseen || len(c.memory.missed()) != 0 {
		t.Errorf("%+v", p)
	}
}

func TestAFileThatIsNotOursIsRefused(t *testing.T) {
	good := `{"version":1,"pods":[{"namespace":"team","name":"web-0","uid":"u1","created":"2026-01-02T03:04:05Z"}]}`
	if _, err := decodePods([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"", "{}", "null", good + "x", strings.Replace(good, "1", "2", 1), strings.Replace(good, `"uid"`, `"uidx"`, 1),
		strings.Replace(good, "web-0", "../x", 1), strings.Replace(good, "team", "", 1), strings.Replace(good, "u1", "a/b", 1),
		`{"version":1,"pods":[` + good[len(`{"version":1,"pods":[`):len(good)-2] + "," + good[len(`{"version":1,"pods":[`):],
		good[:len(good)-3], good + strings.Repeat(" ", maxFile),
	} {
		file := filepath.Join(t.TempDir(), "pods.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		k := NewKubernetes(fake.NewSimpleClientset().CoreV1(), Place{NodeName: "n1"})
		if err := k.Remember(file); err == nil || len(k.memory.uids) != 0 {
			t.Errorf("%.200q: %v", text, err)
		}
		// It is written anew.
		k.memory.put("team/web-0", &pod{namespace: "team", name: "web-0", uid: "u9"})
		k.save(t.Context())
		if err := k.Remember(file); err != nil {
			t.Error(err)
		}
	}
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := NewKubernetes(fake.NewSimpleClientset().CoreV1(), Place{}).Remember(filepath.Join(dir, "link")); err == nil {
		t.Error("a link was followed")
	}
}

func TestTheFileIsBounded(t *testing.T) {
	m := newMemory()
	long := strings.Repeat("x", 300<<10)
	for i := range 100 {
		p := &pod{namespace: "team", name: "p", uid: fmt.Sprintf("u%d", i), containers: map[string]container{"c": {image: long}}}
		m.put("team/p", p)
		if i < 50 {
			m.remove("team/p", p.uid, epoch.Add(time.Duration(i)*time.Second))
		}
	}
	if m.weight > rememberedBytes {
		t.Errorf("deleted pods take %d bytes", m.weight)
	}
	data, err := m.encode()
	if err != nil || len(data) > maxFile {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	pods, err := decodePods(data)
	if err != nil || len(pods) < 50 || !pods[49].deleted.IsZero() {
		t.Errorf("%d pods, %v", len(pods), err)
	}
	if data, err := m.encode(); data != nil || err != nil {
		t.Error("written again without need")
	}
}

func TestWhatIsKeptOfTextsIsBounded(t *testing.T) {
	big := map[string]string{}
	for i := range 1000 {
		big[fmt.Sprintf("%sk%04d", AnnotationPrefix, i)] = strings.Repeat("v", 100)
	}
	big["other"] = "x"
	kept := bounded(big, AnnotationPrefix)
	size := 0
	for k, v := range kept {
		size += len(k) + len(v)
	}
	if size > maxTexts || len(kept) < 100 || kept["other"] != "" {
		t.Errorf("%d entries, %d bytes", len(kept), size)
	}
	if bounded(map[string]string{"a": "b"}, AnnotationPrefix) != nil {
		t.Error("others are kept")
	}
}

func FuzzMemoryFile(f *testing.F) {
	m := newMemory()
	p := reduce(mirror("team", "web-0", uid1, ctr1, ctr2))
	p.ns = &namespace{uid: "ns-1", created: epoch}
	m.put("team/web-0", p)
	m.put("team/web-1", &pod{namespace: "team", name: "web-1", uid: "u2", created: epoch})
	m.remove("team/web-1", "u2", epoch)
	seed, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		pods, err := decodePods(data)
		if err != nil {
			return
		}
		m := newMemory()
		m.restore(pods)
		m.changed = true
		again, err := m.encode()
		if err != nil {
			t.Skip() // a time that JSON cannot say
		}
		back, err := decodePods(again)
		if err != nil || len(back) > len(pods) {
			t.Fatalf("%v, %d of %d", err, len(back), len(pods))
		}
		n := newMemory()
		n.restore(back)
		n.changed = true
		if third, _ := n.encode(); len(back) == len(pods) && len(third) != len(again) {
			t.Fatalf("%s\n%s", again, third)
		}
	})
}

func FuzzDecodeWho(f *testing.F) {
	full := Who{
		Namespace: "team", NamespaceUID: "ns-1", NamespaceLabels: map[string]string{"a": "b"}, Pod: "web-0", PodUID: uid1, Container: "app", Sandbox: true, ContainerID: "containerd://x",
		Image: "web:1", ImageID: "i", Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"c": "d"}, Owner: &v1alpha1.OwnerReference{Kind: "K"},
		NodeName: "n1", ClusterName: "prod", LogPath: "/var/log/pods/x", Verified: true, Sources: []Source{FromAPI},
	}
	data, err := full.Encode()
	if err != nil {
		f.Fatal(err)
	}
	if back, err := DecodeWho(data); err != nil || !reflect.DeepEqual(back, full) {
		f.Fatalf("%+v, %v", back, err)
	}
	f.Add(data)
	f.Add([]byte(`{"namespace":"../x","pod":"p","podUID":"u"}`))
	f.Add(bytes.Repeat([]byte(" "), maxWho+1))
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := DecodeWho(data)
		if err != nil {
			if !reflect.DeepEqual(w, Who{}) {
				t.Fatalf("%+v, %v", w, err)
			}
			return
		}
		if err := w.check(); err != nil {
			t.Fatal(err)
		}
		again, err := w.Encode()
		if err != nil {
			t.Skip() // larger once it is escaped
		}
		if back, err := DecodeWho(again); err != nil || back.Pod != w.Pod || back.Namespace != w.Namespace || back.Container != w.Container {
			t.Fatalf("%+v, %v", back, err)
		}
	})
}
