// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/buckets"
	"example.io/coredump/test/cluster"
)

// curl is a user who has curl and a client certificate, and nothing else.
type curl struct {
	f    *fixture
	pair cluster.Pair
}

func (f *fixture) curl(t *testing.T, user, namespace string) curl {
	t.Helper()
	f.user(t, user, namespace, "coredump-downloader")
	pair, err := f.cluster.ClientCertificate(user)
	if err != nil {
		t.Fatal(err)
	}
	return curl{f, pair}
}

// command is curl of a path of kube-apiserver, which prints the status and a newline, and fails for a status that is an error or bytes that are missing.
func (c curl) command(ctx context.Context, path string, args ...string) *exec.Cmd {
	args = append([]string{"-sS", "--fail-with-body", "--cacert", c.f.cluster.CA(), "--cert", c.pair.Cert, "--key", c.pair.Key, "-w", "%{http_code}\n"}, args...)
	return exec.CommandContext(ctx, "curl", append(args, c.f.cluster.Server+path)...)
}

// run gives what curl prints, with its standard error.
func (c curl) run(t *testing.T, path string, args ...string) (string, error) {
	t.Helper()
	out, err := c.command(t.Context(), path, args...).CombinedOutput()
	return string(out), err
}

// must is run of what may not fail.
func (c curl) must(t *testing.T, path string, args ...string) string {
	t.Helper()
	out, err := c.run(t, path, args...)
	if err != nil {
		t.Fatalf("curl %v %s: %v\n%s", args, path, err, out)
	}
	return out
}

func single(ns, name, format string) string {
	return api + "/namespaces/" + ns + "/coredumps/" + name + "/dump?format=" + format
}

func length(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestPlainCurlResumesADownload: kube-apiserver cuts dump off after its time-out, again and again, and curl -C - goes on each time.
func TestPlainCurlResumesADownload(t *testing.T) {
	f := another(t, cluster.Options{RequestTimeout: 5 * time.Second})
	ns := f.namespace(t, "resume")
	alice := f.curl(t, "resume-alice", ns)
	c := core{namespace: ns, pod: "web-0", container: "app", seed: 1, size: big / 2}
	d := f.dump(t, c)
	unpack := map[string]string{"tar.zst": "tar --zstd -xOf %s --wildcards 'app/core-*-11' | sha256sum", "core.zst": "zstd -dc %s | sha256sum", "core": "sha256sum < %s"}
	for format, command := range unpack {
		t.Run(format, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "dump")
			cut := 0
			for ; ; cut++ {
				before := int64(0)
				if cut > 0 {
					before = length(t, file)
				}
				out, err := alice.run(t, single(ns, d.Name, format), "-C", "-", "-o", file, "--limit-rate", "8M")
				if err == nil {
					break
				}
				if length(t, file) <= before {
					t.Fatalf("curl gets no further than %d bytes: %v\n%s", before, err, out)
				}
			}
			if cut == 0 {
				t.Error("the download was never cut off: this shows nothing")
			}
			if sum := shell(t, "", "", fmt.Sprintf(command, file)); !strings.HasPrefix(sum, c.sum()) {
				t.Errorf("SHA-256 %s, want %s", sum, c.sum())
			}
		})
	}
}

func TestRangesAndConditionsPassKubeAPIServer(t *testing.T) {
	f := &shared
	ns := f.namespace(t, "ranges")
	alice := f.curl(t, "ranges-alice", ns)
	c := core{namespace: ns, pod: "web-0", container: "app", seed: 1, size: 4 << 20}
	d := f.dump(t, c)
	file := filepath.Join(t.TempDir(), "core")
	alice.must(t, single(ns, d.Name, "core"), "-o", file)
	if sum := shell(t, "", "", "sha256sum < "+file); !strings.HasPrefix(sum, c.sum()) {
		t.Fatalf("SHA-256 %s, want %s", sum, c.sum())
	}
	head := alice.must(t, single(ns, d.Name, "core"), "-I")
	contains(t, strings.ToLower(head), "accept-ranges: bytes", fmt.Sprintf("content-length: %d", length(t, file)), "etag: \"")
	_, rest, _ := strings.Cut(strings.ToLower(head), "etag: ")
	etag, _, _ := strings.Cut(rest, "\r")

	part := filepath.Join(t.TempDir(), "part")
	out := alice.must(t, single(ns, d.Name, "core"), "-r", "1000000-1999999", "-H", "If-Match: "+etag, "-o", part)
	contains(t, out, "206")
	shell(t, "", "", fmt.Sprintf("tail -c +1000001 %s | head -c 1000000 | cmp - %s", file, part))
	contains(t, alice.must(t, single(ns, d.Name, "core"), "-H", "If-None-Match: "+etag, "-o", part), "304")

	out, err := alice.run(t, single(ns, d.Name, "core"), "-r", "99999999-")
	if err == nil {
		t.Error("a range behind the end: curl exited 0")
	}
	contains(t, out, "416", fmt.Sprint(length(t, file)))

	// The archive of a pod becomes another when there is another dump.
	pod := dumpPath(ns, "web-0", "?format=tar.zst")
	_, rest, _ = strings.Cut(strings.ToLower(alice.must(t, pod, "-I")), "etag: ")
	before, _, _ := strings.Cut(rest, "\r")
	f.dump(t, core{namespace: ns, pod: "web-0", container: "app", seed: 2, size: 1 << 20})
	out, err = alice.run(t, pod, "-r", "1000-", "-H", "If-Match: "+before)
	if err == nil {
		t.Error("a range of an archive that is another now: curl exited 0")
	}
	contains(t, out, "412", "PreconditionFailed")
}

// TestWhatIsWrongInTheStoreIsNeverACleanDownload: an error that says what is wrong where that can be known beforehand, an aborted download where not.
func TestWhatIsWrongInTheStoreIsNeverACleanDownload(t *testing.T) {
	f := another(t, cluster.Options{})
	ns := f.namespace(t, "wrong")
	alice := f.curl(t, "wrong-alice", ns)
	var dumps []v1alpha1.CoreDump
	for i := range 5 {
		dumps = append(dumps, f.dump(t, core{namespace: ns, pod: fmt.Sprintf("web-%d", i), container: "app", seed: uint64(i), size: 4 << 20}))
	}
	f.system.Stop() // it remembers records
	object := func(i int, suffix string) string {
		return filepath.Join(f.store.Data(), ns, fmt.Sprintf("web-%d", i), "app", dumps[i].Name[strings.LastIndexByte(dumps[i].Name, '.')+1:]+suffix)
	}
	change := func(file string, change func([]byte) []byte) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0) // as the file it is: the store keeps ETag and checksum beside it
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Write(change(data)); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range f.store.RootEnv() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	bucket, err := buckets.Open(t.Context(), f.store.URL())
	if err != nil {
		t.Fatal(err)
	}
	lie := func(i int, lie func(*v1alpha1.CoreDump)) {
		k, err := storage.ParseName(ns, dumps[i].Name)
		if err != nil {
			t.Fatal(err)
		}
		lie(&dumps[i])
		data, err := storage.EncodeRecord(k, &dumps[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bucket.Put(t.Context(), k.Record(), bytes.NewReader(data), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	change(object(0, ".core.zst"), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	change(object(1, ".core.zst"), func(b []byte) []byte { return b[:len(b)-1000] })
	lie(2, func(d *v1alpha1.CoreDump) { d.Status.Size += 512 })
	lie(3, func(d *v1alpha1.CoreDump) { d.Status.StoredSize -= 10 })
	lie(4, func(d *v1alpha1.CoreDump) { d.Status.SHA256 = strings.Repeat("0", 64) })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	server, err := f.system.StartAPIServer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"a bit that flipped", "an object that was cut", "a record with another size", "a record with another stored size", "a record with another sum"} {
		for _, format := range []string{"tar.gz", "tar.zst", "tar", "core", "core.zst"} {
			if i == 4 && strings.HasSuffix(format, ".zst") {
				continue // what is stored is sent as it is: this sum is the client's to compare
			}
			file := filepath.Join(t.TempDir(), "dump")
			out, err := alice.run(t, single(ns, dumps[i].Name, format), "-o", file)
			if err == nil {
				t.Errorf("%s, %s: curl exited 0\n%s", name, format, out)
			}
			if i >= 1 && i <= 3 {
				answer, _ := os.ReadFile(file)
				contains(t, out+string(answer), "500", "InternalError", ".core.zst")
			}
		}
	}
	if err := logged(server, object(0, ".core.zst")[len(f.store.Data())+1:]); err != nil {
		t.Errorf("the log does not name the object: %v", err)
	}
}

func TestAStoreThatStandsStillEndsInAnErrorAndCanBeResumed(t *testing.T) {
	f := another(t, cluster.Options{})
	ns := f.namespace(t, "still")
	alice := f.curl(t, "still-alice", ns)
	c := core{namespace: ns, pod: "web-0", container: "app", seed: 1, size: big}
	d := f.dump(t, c)
	f.system.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := f.system.StartAPIServer(ctx, "--stall-timeout=3s"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "core.zst")
	cmd := alice.command(ctx, single(ns, d.Name, "core.zst"), "-o", file, "--limit-rate", "16M")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	begun := cluster.Poll(ctx, func(context.Context) error {
		if info, err := os.Stat(file); err != nil || info.Size() < 1<<20 {
			return os.ErrNotExist
		}
		return nil
	})
	if begun != nil {
		t.Fatal(begun)
	}
	if err := f.store.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("curl exited 0 although the store stood still")
	}
	if err := f.store.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	alice.must(t, single(ns, d.Name, "core.zst"), "-C", "-", "-o", file)
	if sum := shell(t, "", "", "zstd -dc "+file+" | sha256sum"); !strings.HasPrefix(sum, c.sum()) {
		t.Errorf("SHA-256 %s, want %s", sum, c.sum())
	}
}

func TestAPresignedURLIsGivenToWhoMayDownload(t *testing.T) {
	f := another(t, cluster.Options{})
	ns := f.namespace(t, "presign")
	alice := f.user(t, "presign-alice", ns, "coredump-downloader")
	bob := f.user(t, "presign-bob", ns, "coredump-presigner")
	c := core{namespace: ns, pod: "web-0", container: "app", seed: 1, size: 4 << 20}
	d := f.dump(t, c)
	path := api + "/namespaces/" + ns + "/coredumps/" + d.Name + "/presign"
	presign := func(config string) (v1alpha1.PresignedURL, error) {
		cmd := f.cluster.Command(t.Context(), config, "create", "--raw", path, "-f", "-")
		cmd.Stdin = strings.NewReader("{}")
		out, err := cmd.Output()
		if err != nil {
			if e, ok := err.(*exec.ExitError); ok {
				err = fmt.Errorf("%w: %s", err, e.Stderr)
			}
			return v1alpha1.PresignedURL{}, err
		}
		var got v1alpha1.PresignedURL
		return got, json.Unmarshal(out, &got)
	}
	if _, err := presign(f.cluster.Admin); err == nil || !strings.Contains(err.Error(), "NotFound") {
		t.Errorf("it is off by default: %v", err)
	}
	f.system.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := f.system.StartAPIServer(ctx, "--presign-ttl=1m"); err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]string{"a downloader": alice, "a presigner": bob} {
		if _, err := presign(config); err == nil || !strings.Contains(err.Error(), "Forbidden") {
			t.Errorf("%s alone: %v, want Forbidden", name, err)
		}
	}
	f.admin(t, "create", "rolebinding", "-n", ns, "both", "--clusterrole=coredump-downloader", "--user=presign-bob")
	var got v1alpha1.PresignedURL
	err := cluster.Poll(ctx, func(context.Context) (err error) { // the authorizer remembers a no for a while
		got, err = presign(bob)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	out := shell(t, "", "", fmt.Sprintf("curl -sSf '%s' | zstd -dc | sha256sum", got.Status.URL))
	if !strings.HasPrefix(out, c.sum()) || got.Status.SHA256 != c.sum() {
		t.Errorf("the URL leads to %s, the answer says %s, want %s", out, got.Status.SHA256, c.sum())
	}
}
