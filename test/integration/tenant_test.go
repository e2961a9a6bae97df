// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/corefile/corefiletest"
	"example.io/coredump/test/cluster"
)

const api = "/apis/coredump.example.io/v1alpha1"

// admin runs kubectl as the cluster's administrator, and fails the test where it fails.
func (f *fixture) admin(t *testing.T, args ...string) string {
	t.Helper()
	out, err := f.cluster.Kubectl(t.Context(), f.cluster.Admin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// namespace makes a namespace that goes with the test.
func (f *fixture) namespace(t *testing.T, name string) string {
	t.Helper()
	f.admin(t, "create", "namespace", name)
	t.Cleanup(func() {
		_, _ = f.cluster.Kubectl(context.Background(), f.cluster.Admin, "delete", "namespace", name, "--wait=false", "--ignore-not-found")
	})
	return name
}

// user makes a user who has the role in the namespace (no role where it is empty) and gives the kubeconfig.
func (f *fixture) user(t *testing.T, name, namespace, role string) string {
	t.Helper()
	if role != "" {
		f.admin(t, "create", "rolebinding", "-n", namespace, name, "--clusterrole="+role, "--user="+name)
	}
	config, err := f.cluster.Kubeconfig(name)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// kubectl runs kubectl with a kubeconfig; what it prints and whether it failed are for the caller to judge.
func (f *fixture) kubectl(t *testing.T, config string, args ...string) (string, error) {
	t.Helper()
	out, err := f.cluster.Kubectl(t.Context(), config, args...)
	return string(out), err
}

// pod makes a pod object of one container. No kubelet runs it.
func (f *fixture) pod(t *testing.T, namespace, name, container string) (uid string) {
	t.Helper()
	f.admin(t, "run", name, "-n", namespace, "--image=example/app:1", "--labels=app="+name,
		fmt.Sprintf(`--overrides={"spec":{"nodeName":"node-1","containers":[{"name":%q,"image":"example/app:1"}]}}`, container))
	return f.admin(t, "get", "pod", "-n", namespace, name, "-o", "jsonpath={.metadata.uid}")
}

// core is a core that a process leaves in the watched directory.
type core struct {
	namespace, pod, container string
	size                      int
	seed                      uint64
	time                      time.Time
}

// sum is the SHA-256 of the core.
func (c core) sum() string {
	s := sha256.Sum256(c.bytes())
	return hex.EncodeToString(s[:])
}

func (c core) bytes() []byte { return corefiletest.Core(max(c.size, corefiletest.MinSize+64), c.seed) }

// file drops the core under the name that the kernel would give it.
func (c core) file(t *testing.T, dir string) string {
	t.Helper()
	into := filepath.Join(dir, c.namespace, c.pod, c.container)
	if err := os.MkdirAll(into, 0o755); err != nil {
		t.Fatal(err)
	}
	if c.time.IsZero() {
		c.time = time.Now()
	}
	name := filepath.Join(into, fmt.Sprintf("core-app-%d-%d-11", c.time.Unix(), 1000+c.seed))
	if err := os.WriteFile(name, c.bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// dump drops the core and waits until the administrator finds it in the list.
func (f *fixture) dump(t *testing.T, c core) v1alpha1.CoreDump {
	t.Helper()
	c.file(t, f.handler.Dir)
	return f.awaitDump(t, c)
}

func (f *fixture) awaitDump(t *testing.T, c core) (found v1alpha1.CoreDump) {
	t.Helper()
	sum := c.sum()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := cluster.Poll(ctx, func(ctx context.Context) error {
		list, err := f.list(ctx, f.cluster.Admin, "-n", c.namespace)
		for _, d := range list.Items {
			if d.Status.SHA256 == sum && d.Spec.PodName == c.pod {
				found = d
				return nil
			}
		}
		return fmt.Errorf("not among %d dumps (%v)", len(list.Items), err)
	})
	if err != nil {
		t.Fatalf("%v\nnodehandler:\n%s", err, f.handler.Tail())
	}
	return found
}

func (f *fixture) list(ctx context.Context, config string, args ...string) (list v1alpha1.CoreDumpList, err error) {
	out, err := f.cluster.Kubectl(ctx, config, append([]string{"get", "coredumps", "-o", "json"}, args...)...)
	if err == nil {
		err = json.Unmarshal(out, &list)
	}
	return list, err
}

// names are the names of the core dumps that kubectl lists.
func (f *fixture) names(t *testing.T, config string, args ...string) []string {
	t.Helper()
	out, err := f.kubectl(t, config, append([]string{"get", "coredumps", "-o", "name"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(strings.ReplaceAll(out, "coredump.coredump.example.io/", ""))
}

// dumpPath is the URL of the dump of a pod.
func dumpPath(namespace, pod, query string) string {
	return fmt.Sprintf("%s/namespaces/%s/coredumpendpoints/%s/dump%s", api, namespace, pod, query)
}

// untar runs the real tar and gives the SHA-256 of every core by its name in the archive.
func untar(t *testing.T, archive string, flag string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	shell(t, dir, archive, "tar "+flag+" -xf -")
	sums := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasSuffix(path, ".json") {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		h := sha256.New()
		if _, err := io.Copy(h, file); err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		sums[rel] = hex.EncodeToString(h.Sum(nil))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}
