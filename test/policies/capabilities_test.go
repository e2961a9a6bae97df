// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.io/coredump/pkg/corefile/corefiletest"
	"example.io/coredump/test/required"
)

// capabilities are those that artifacts/base gives the node handler.
func capabilities(t *testing.T) []string {
	t.Helper()
	manifest, err := os.ReadFile("../../artifacts/base/nodehandler.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`add: \[(.*)\]`).FindSubmatch(manifest)
	if m == nil {
		t.Fatal("no capabilities in the manifest")
	}
	return strings.Split(strings.ToLower(string(m[1])), ", ")
}

// The node handler runs as a root that has lost all capabilities but those of its manifest, with the credentials of its policy,
// on files as pods leave them. Without any one of the capabilities that are there for files one of them stays. (SETUID and SETGID: copy_test.go.)
func TestTheNodeHandlersCapabilitiesAreEnoughAndNoneIsTooMany(t *testing.T) {
	if _, err := exec.LookPath("setpriv"); err != nil || os.Geteuid() != 0 {
		required.Missing(t, "needs root and setpriv (util-linux)")
	}
	binary := filepath.Join(t.TempDir(), "nodehandler")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/nodehandler").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := start(t, "")
	all := capabilities(t)
	t.Run("with all", func(t *testing.T) {
		h := s.handler(t, binary, all)
		if left := h.leftAfter(t, "others", "sticky"); len(left) != 0 {
			t.Errorf("left %q\n%s", left, h.log.String())
		}
		name := h.writing(t)
		// What comes after it and is taken tells that it has been looked at.
		next := h.core(t, "zzz", user, 0o755)
		wait(t, "the next file", func() bool { return gone(next) })
		if gone(name) {
			t.Error("a file that is being written was taken")
		}
	})
	for _, tc := range []struct{ without, leaves string }{{"dac_override", "others"}, {"fowner", "sticky"}} {
		t.Run("without "+tc.without, func(t *testing.T) {
			rest := slices.DeleteFunc(slices.Clone(all), func(c string) bool { return c == tc.without })
			h := s.handler(t, binary, rest)
			if left := h.leftAfter(t, "own"); !slices.Contains(left, tc.leaves) {
				t.Errorf("left %q, want %s to stay: is the capability needed?\n%s", left, tc.leaves, h.log.String())
			}
		})
	}
	t.Run("without lease", func(t *testing.T) {
		h := s.handler(t, binary, slices.DeleteFunc(slices.Clone(all), func(c string) bool { return c == "lease" }))
		h.leftAfter(t, "others", "sticky")
		name := h.writing(t)
		wait(t, "a file that is being written to be taken: is the capability needed?", func() bool { return gone(name) })
	})
}

// handler is a running node handler on a directory with dumps of user 1000: "others" with mode 0600 in a directory that is
// closed to all others, "sticky" in a sticky directory, and one of root's, "own".
type handler struct {
	dir string
	log bytes.Buffer
}

const user = 1000

func (s *store) handler(t *testing.T, binary string, capabilities []string) *handler {
	t.Helper()
	dir := t.TempDir()
	for d := dir; strings.HasPrefix(d, os.TempDir()+"/"); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h := &handler{dir: dir}
	for pod, mode := range map[string]os.FileMode{"others": 0o700, "sticky": 0o777 | os.ModeSticky, "own": 0o755} {
		uid := user
		if pod == "own" {
			uid = 0
		}
		h.core(t, pod, uid, mode)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	set := "-all"
	for _, c := range capabilities {
		set += ",+" + c
	}
	cmd := exec.Command("setpriv", "--bounding-set="+set, "--inh-caps=-all", "--no-new-privs", binary, "--capture=file", "--store="+s.URL(bucket), "--kubernetes=off",
		"--settle=1h", "--rescan-interval=1s", "--listen-address="+address, "--node-name="+filepath.Base(t.TempDir()), dir)
	cmd.Env = append(os.Environ(), s.EnvOf(nodehandler, s.secret(nodehandler))...)
	cmd.Stdout, cmd.Stderr = &h.log, &h.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	wait(t, "the handler to be ready", func() bool {
		resp, err := http.Get("http://" + address + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return h
}

// core leaves a complete core of the user.
func (h *handler) core(t *testing.T, pod string, uid int, mode os.FileMode) string {
	t.Helper()
	dir := filepath.Join(h.dir, "shop", pod, "app")
	name := filepath.Join(dir, "core-app-1795235701-7-11")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, corefiletest.Core(1<<16, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Chown(name, uid, uid), os.Chown(dir, uid, uid), os.Chmod(dir, mode)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return name
}

// leftAfter waits until the dumps of the pods are gone and tells whose are left.
func (h *handler) leftAfter(t *testing.T, pods ...string) []string {
	t.Helper()
	left := func() (pods []string) {
		files, _ := filepath.Glob(filepath.Join(h.dir, "shop/*/app/core-*"))
		for _, f := range files {
			pods = append(pods, filepath.Base(filepath.Dir(filepath.Dir(f))))
		}
		return pods
	}
	wait(t, fmt.Sprintf("%q to be uploaded", pods), func() bool {
		return !slices.ContainsFunc(left(), func(pod string) bool { return slices.Contains(pods, pod) })
	})
	return left()
}

// writing leaves a file of another user that is complete by its header, and that somebody has open for writing until the test ends.
func (h *handler) writing(t *testing.T) string {
	t.Helper()
	f, err := os.CreateTemp(h.dir, "tmp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.Write(corefiletest.Core(1<<16, 1)); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(h.dir, "shop/writing/app")
	name := filepath.Join(dir, "core-app-1795235702-8-11")
	for _, err := range []error{f.Chown(user, user), os.MkdirAll(dir, 0o755), os.Rename(f.Name(), name)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return name
}

func gone(name string) bool {
	_, err := os.Stat(name)
	return os.IsNotExist(err)
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}
