// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// core is a core on this side of the download.
type core struct {
	path   string
	sha256 string
}

// download fetches a dump as a user does, with kubectl and tar, and checks that it is what the record says.
func (f *fixture) download(t *testing.T, config string, d v1alpha1.CoreDump) core {
	t.Helper()
	c := core{path: find(t, f.unpack(t, config, d))}
	c.sha256, _ = fileSum(t, c.path)
	if c.sha256 != d.Status.SHA256 {
		t.Errorf("downloaded %s, the record says %s", c.sha256, d.Status.SHA256)
	}
	if d.Status.Truncated || d.Status.PromisedSize != 0 && d.Status.Size != d.Status.PromisedSize {
		t.Errorf("not whole: %+v", d.Status)
	}
	return c
}

// find is the one core below a directory; beside it are the record and what the context bundle has.
func find(t *testing.T, dir string) (path string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		file, err := os.Open(p)
		if err != nil {
			return err
		}
		defer file.Close()
		var magic [4]byte
		if _, e := io.ReadFull(file, magic[:]); e != nil || string(magic[:]) != "\x7fELF" {
			return nil
		}
		if path != "" {
			return fmt.Errorf("two cores: %s, %s", path, p)
		}
		path = p
		return nil
	})
	if err != nil || path == "" {
		t.Fatalf("no core in the archive (%v)", err)
	}
	return path
}

// fileSum is the hex SHA-256 of a file, and its size.
func fileSum(t *testing.T, path string) (string, int64) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	h := sha256.New()
	n, err := io.Copy(h, file)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil)), n
}

// gdb opens a core of a program and says what the commands print.
func gdb(t *testing.T, executable string, c core, commands ...string) string {
	t.Helper()
	args := []string{"-nx", "-batch"}
	for _, command := range commands {
		args = append(args, "-ex", command)
	}
	out, err := exec.CommandContext(t.Context(), "gdb", append(args, executable, c.path)...).CombinedOutput()
	if err != nil {
		t.Fatalf("gdb: %v\n%s", err, out)
	}
	return string(out)
}

// isOfCrash checks a core of crash.c: the function that crashed, in how many threads, and all the memory that it had filled. That is what the core
// itself is measured by, whatever way it came: the numbers are known here without having seen it.
func isOfCrash(t *testing.T, c core, mib, threads int) {
	t.Helper()
	memory := filepath.Join(t.TempDir(), "memory")
	out := gdb(t, program("crash"), c, "bt", "info threads", "dump binary memory "+memory+" pattern pattern+pattern_size")
	if !strings.Contains(out, "crash_here") || !strings.Contains(out, "SIGSEGV") {
		t.Errorf("no crash in crash_here:\n%s", out)
	}
	if n := strings.Count(out, "(LWP ") + strings.Count(out, " LWP "); n < threads {
		t.Errorf("%d threads, want %d:\n%s", n, threads, out)
	}
	sum, size := fileSum(t, memory)
	if want := pattern(mib << 20); size != int64(mib)<<20 || sum != want {
		t.Errorf("memory of %d bytes is %s, was filled with %d MiB, %s", size, sum, mib, want)
	}
}

// pattern is the hex SHA-256 of what crash.c fills that many bytes with, whole MiB.
func pattern(bytes int) string {
	h := sha256.New()
	writePattern(h, bytes)
	return hex.EncodeToString(h.Sum(nil))
}

// patternBytes are these bytes.
func patternBytes(n int) []byte {
	var b bytes.Buffer
	writePattern(&b, n)
	return b.Bytes()
}

func writePattern(w io.Writer, bytes int) {
	x := uint32(12345)
	block := make([]byte, 1<<20)
	for range bytes / len(block) {
		for i := range block {
			x = x*1103515245 + 12345
			block[i] = byte(x >> 16)
		}
		_, _ = w.Write(block)
	}
}
