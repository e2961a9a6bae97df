// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture/kerneltest"
	"example.io/coredump/pkg/corefile"
)

// handlerPattern installs the test as the handler that forwards to original, and gives the core_pattern that runs it.
func handlerPattern(t *testing.T, original string) (pattern, dir string) {
	t.Helper()
	dir = kerneltest.Dir(t)
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(filepath.Join(dir, "handler"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pattern"), []byte(original), 0o600); err != nil {
		t.Fatal(err)
	}
	pattern = "|" + dir + "/handler"
	for _, l := range letters {
		pattern += " %" + string(l)
	}
	return pattern, dir
}

// crash lets a user's process crash in a directory. With core_pipe_limit above 0 the kernel's parent waits for the handler, so all is done after it.
func crash(t *testing.T, dir string, id uint32, script string) {
	t.Helper()
	cmd := kerneltest.Shell(dir, script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id, Groups: []uint32{id}}}
	kerneltest.Crash(t, cmd)
}

// TestTheOriginalHandlerGetsAllAsFromTheKernel has one crash delivered to a program by the kernel, and one by way of us.
func TestTheOriginalHandlerGetsAllAsFromTheKernel(t *testing.T) {
	program := kerneltest.Dir(t)
	script := "#!/bin/sh\ncat >" + program + `/core
{ pwd; cat /proc/$$/environ | tr '\0' '\n'; cat /proc/$$/oom_score_adj; ulimit -c; ulimit -Sn; id -u; echo $#; for a; do echo "<$a>"; done
readlink /proc/$$/fd/3; cat /proc/$$/limits /proc/$$/cgroup
# Not /proc/$$: a shell that waits for a child may have blocked all signals for a moment.
exec grep -E "Cap|Sig[BI]|Seccomp|NoNew" /proc/self/status; } >` + program + `/facts
`
	if err := os.WriteFile(filepath.Join(program, "p"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	original := "|" + program + "/p  %u %e %Q -s%s x%%%d %h %E %c %F end"
	pattern, dir := handlerPattern(t, original)
	kerneltest.Have(t, original, "16")
	var facts [2]string
	for i, p := range []string{original, pattern} {
		kerneltest.Set(t, "kernel/core_pattern", p)
		crash(t, "/", nobody, `printf 'a  b' >/proc/$$/comm; ulimit -c 7; kill -SEGV $$`)
		b, err := os.ReadFile(filepath.Join(program, "facts"))
		if err != nil {
			e, _ := os.ReadFile(filepath.Join(dir, "error"))
			t.Fatalf("%v %s", err, e)
		}
		facts[i] = string(b)
		core, err := os.ReadFile(filepath.Join(program, "core"))
		if err != nil {
			t.Fatal(err)
		}
		if h, err := corefile.ReadHeader(bytes.NewReader(core)); err != nil || h.PromisedSize != int64(len(core)) {
			t.Errorf("%q: %d bytes of %d: %v", p, len(core), h.PromisedSize, err)
		}
		os.Remove(filepath.Join(program, "core"))
		os.Remove(filepath.Join(program, "facts"))
	}
	if facts[0] != facts[1] || !strings.Contains(facts[0], "<a  b>\n<>\n<-s11>\n<x%1>\n") {
		t.Errorf("from us:\n%s\nfrom the kernel:\n%s", facts[1], facts[0])
	}
}

// TestTheFileIsTheOneThatTheKernelWrites compares a file that the kernel writes with one that we write for it.
func TestTheFileIsTheOneThatTheKernelWrites(t *testing.T) {
	const original = "core.%e.%s.%u"
	pattern, handler := handlerPattern(t, original)
	kerneltest.Have(t, "", "16")
	for _, c := range []struct {
		id     uint32
		script string
	}{
		{0, "ulimit -c unlimited; kill -SEGV $$"},
		{nobody, "ulimit -c unlimited; kill -SEGV $$"},
		{nobody, "ulimit -c 0; kill -SEGV $$"},
		{nobody, "ulimit -c 160; kill -SEGV $$"},
		{nobody, "ulimit -c unlimited; ln -s /etc/passwd core.sh.11.65534; kill -SEGV $$"},
		{nobody, "ulimit -c unlimited; cd /; kill -SEGV $$"},
	} {
		var seen [2]string
		for i, p := range []string{original, pattern} {
			dir := directory(t, int(c.id))
			kerneltest.Set(t, "kernel/core_pattern", p)
			os.Remove(filepath.Join(handler, "written"))
			crash(t, dir, c.id, c.script)
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				var st unix.Stat_t
				if err := unix.Lstat(filepath.Join(dir, e.Name()), &st); err != nil {
					t.Fatal(err)
				}
				b, err := os.ReadFile(filepath.Join(dir, e.Name()))
				if err != nil {
					t.Fatal(err)
				}
				h, err := corefile.ReadHeader(bytes.NewReader(b))
				seen[i] += fmt.Sprintf("%s %o %d:%d", e.Name(), st.Mode, st.Uid, st.Gid)
				if whole := h.PromisedSize == int64(len(b)); whole || i == 0 {
					seen[i] += fmt.Sprintf(" whole: %v", whole)
				}
				if i == 0 {
					continue
				}
				// Ours is what came from the kernel, byte by byte.
				if err != nil {
					t.Errorf("%v: %v", c, err)
				}
				sum := fmt.Sprintf("%d %x", len(b), sha256.Sum256(b))
				if written, _ := os.ReadFile(filepath.Join(handler, "written")); h.PromisedSize == int64(len(b)) && string(written) != sum {
					t.Errorf("%v: %s, want %s", c, sum, written)
				} else if h.PromisedSize != int64(len(b)) {
					seen[i] += " whole: false"
				}
			}
		}
		if seen[0] != seen[1] {
			t.Errorf("%v: %q, and from the kernel %q", c, seen[1], seen[0])
		}
		t.Log(c.script, seen[1])
	}
}

// TestAChrootedProcessOfAnotherMountNamespaceGetsItsFileThere is how services of the host are confined.
func TestAChrootedProcessOfAnotherMountNamespaceGetsItsFileThere(t *testing.T) {
	jail := directory(t, nobody)
	pattern, handler := handlerPattern(t, "/c/core")
	kerneltest.Have(t, pattern, "16")
	out, err := exec.Command("unshare", "--mount", "/bin/sh", "-ec", `
cd `+jail+`
mkdir c usr bin lib lib64
chmod 777 c
for d in usr bin lib lib64; do mount --bind /$d $d; done
chroot --userspec=65534:65534 . /bin/sh -c 'cd /c; ulimit -c unlimited; kill -SEGV $$' || true
`).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if st, err := os.Stat(filepath.Join(jail, "c", "core")); err != nil || st.Size() == 0 || st.Sys().(*syscall.Stat_t).Uid != nobody {
		e, _ := os.ReadFile(filepath.Join(handler, "error"))
		t.Errorf("%v %s", err, e)
	}
}
