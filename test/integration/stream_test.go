// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os/exec"
	"testing"
	"time"

	"example.io/coredump/test/cluster"
)

// big is a core that is larger than all buffers between the store and kubectl together, and does not compress.
const big = 128 << 20

// slowly starts a download and returns after its first bytes. The rest waits in the store: nobody reads on.
func (f *fixture) slowly(t *testing.T, config, path string) (cmd *exec.Cmd, out io.ReadCloser) {
	t.Helper()
	cmd = f.cluster.Command(t.Context(), config, "get", "--raw", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 64<<10)); err != nil {
		t.Fatalf("the first bytes of %s: %v", path, err)
	}
	return cmd, out
}

// finish reads the rest of a download and gives its length and kubectl's verdict.
func finish(cmd *exec.Cmd, out io.Reader) (int64, error) {
	n, _ := io.Copy(io.Discard, out)
	return n, cmd.Wait()
}

func TestADownloadThatBreaksOffEndsInAnError(t *testing.T) {
	f := another(t, cluster.Options{})
	ns := f.namespace(t, "breaks")
	alice := f.user(t, "alice", ns, "coredump-downloader")
	f.dump(t, core{namespace: ns, pod: "web-0", container: "app", seed: 1, size: big})

	t.Run("the store dies", func(t *testing.T) {
		for _, way := range []string{"?format=tar.gz", "?format=tar.zst", "?format=tar"} {
			cmd, out := f.slowly(t, alice, dumpPath(ns, "web-0", way))
			f.store.Kill()
			if n, err := finish(cmd, out); err == nil {
				t.Errorf("%s: kubectl exited 0 after %d bytes of a dump whose store died", way, n)
			}
			if err := f.store.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("the stored object is cut short", func(t *testing.T) {
		shell(t, f.store.Data(), "", "truncate -s -1000 "+ns+"/web-0/app/*.core.zst")
		_, err := f.kubectl(t, alice, "get", "--raw", dumpPath(ns, "web-0", ""))
		if err == nil {
			t.Error("kubectl exited 0 with an object that has lost its end")
		}
	})
}

func TestTheWallOfKubeAPIServerIsPassedByTheAliasProxy(t *testing.T) {
	const wall = 5 * time.Second
	f := another(t, cluster.Options{RequestTimeout: wall})
	ns := f.namespace(t, "wall")
	alice := f.user(t, "alice", ns, "coredump-downloader")
	c := core{namespace: ns, pod: "web-0", container: "app", seed: 1, size: big}
	f.dump(t, c)

	beyond := func(path string) (sum string, err error) {
		cmd := f.cluster.Command(t.Context(), alice, "get", "--raw", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		tarball := exec.Command("tar", "-xO", "--wildcards", "app/core-*-11")
		in, _ := tarball.StdinPipe()
		core, _ := tarball.StdoutPipe()
		if err := tarball.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			defer in.Close()
			_, _ = io.CopyN(in, out, 1<<20)
			<-time.After(wall + wall/2) // a slow client, not a synchronisation: this is what the wall is about
			_, _ = io.Copy(in, out)
		}()
		h := sha256.New()
		_, _ = io.Copy(h, core)
		_ = tarball.Wait()
		return hex.EncodeToString(h.Sum(nil)), cmd.Wait()
	}
	t.Run("dump is cut, with an error", func(t *testing.T) {
		if _, err := beyond(dumpPath(ns, "web-0", "?format=tar")); err == nil {
			t.Error("kubectl exited 0, was to be cut")
		}
	})
	t.Run("proxy is complete", func(t *testing.T) {
		sum, err := beyond(api + "/namespaces/" + ns + "/coredumpendpoints/web-0/proxy?format=tar")
		if err != nil {
			t.Errorf("kubectl: %v", err)
		}
		if sum != c.sum() {
			t.Errorf("SHA-256 %s, want %s", sum, c.sum())
		}
	})
}
