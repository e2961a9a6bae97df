// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture/kerneltest"
)

// victim is a process that stands for one that crashed: it waits in a directory, as a user.
func victim(t *testing.T, dir string, id uint32, change ...func(*exec.Cmd)) int {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: needs root to take the rights of another")
	}
	cmd := exec.Command("/bin/sleep", "1000")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id, Groups: []uint32{id, 12345}}}
	for _, f := range change {
		f(cmd)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}

// directory is one that belongs to a user.
func directory(t *testing.T, id int) string {
	t.Helper()
	dir := kerneltest.Dir(t)
	if err := os.Chown(dir, id, id); err != nil {
		t.Skip("NOT TESTED: needs root to give a directory to another")
	}
	return dir
}

func fileOf(pid int, path string) File {
	return File{PID: pid, Verify: func() error { return nil }, Path: path, Dumpable: 1, Limit: math.MaxUint64, HostRoot: "/"}
}

const nobody = 65534

// core is what a kernel might send: data, zeros, an odd end.
func core() []byte {
	b := bytes.Repeat([]byte("core"), 3*pageSize/4)
	b = append(b, make([]byte, 100*pageSize)...)
	b = append(b, bytes.Repeat([]byte("x"), pageSize)...)
	return append(b, make([]byte, 17)...)
}

func TestTheFileBelongsToTheProcessAndIsWhole(t *testing.T) {
	for _, id := range []int{0, nobody} {
		dir := directory(t, id)
		n, err := fileOf(victim(t, dir, uint32(id)), "core.1").Write(bytes.NewReader(core()))
		if err != nil || n != int64(len(core())) {
			t.Fatal(n, err)
		}
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, "core.1"), &st); err != nil {
			t.Fatal(err)
		}
		if int(st.Uid) != id || int(st.Gid) != id || st.Mode != unix.S_IFREG|0o600 || st.Blocks*512 > 8*pageSize {
			t.Errorf("owner %d:%d, mode %o, %d blocks", st.Uid, st.Gid, st.Mode, st.Blocks)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "core.1")); err != nil || !bytes.Equal(b, core()) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

func TestAProcessGetsNoFileWhereItCouldNotWrite(t *testing.T) {
	dir := kerneltest.Dir(t) // root's
	pid := victim(t, dir, nobody)
	for _, path := range []string{"core", filepath.Join(dir, "core"), "no/such/core", "/"} {
		if _, err := fileOf(pid, path).Write(bytes.NewReader(core())); err == nil {
			t.Errorf("%s is written", path)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%v", left)
	}
	// Nor does root without the capability, as it is in a container.
	theirs := directory(t, nobody)
	if err := os.Chmod(theirs, 0o700); err != nil {
		t.Fatal(err)
	}
	pid = victim(t, "/", 0, func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args = "/usr/bin/setpriv", []string{"setpriv", "--bounding-set=-all", "--inh-caps=-all", "/bin/sh", "-c", "echo; exec sleep 1000"}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { out.Close() })
		cmd.Cancel = nil
		ready = out
	})
	ready.Read(make([]byte, 1))
	if _, err := fileOf(pid, filepath.Join(theirs, "core")).Write(bytes.NewReader(core())); !errors.Is(err, unix.EACCES) {
		t.Errorf("root without capabilities: %v", err)
	}
}

var ready io.Reader

// TestP10_NothingThatTheNameLeadsToIsOpened has an accomplice put things where the core file belongs.
func TestP10_NothingThatTheNameLeadsToIsOpened(t *testing.T) {
	secret := filepath.Join(kerneltest.Dir(t), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, plant := range map[string]func(string) error{
		"link":      func(name string) error { return os.Symlink(secret, name) },
		"hard link": func(name string) error { return os.Link(secret, name) },
		"FIFO":      func(name string) error { return unix.Mkfifo(name, 0o666) },
		"old core":  func(name string) error { return os.WriteFile(name, []byte("old and longer than that"), 0o666) },
	} {
		dir := directory(t, nobody)
		name := filepath.Join(dir, "core")
		if err := plant(name); err != nil {
			t.Fatal(err)
		}
		if _, err := fileOf(victim(t, dir, nobody), "core").Write(strings.NewReader("core")); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if st, err := os.Lstat(name); err != nil || !st.Mode().IsRegular() || st.Size() != 4 {
			t.Errorf("%s: %v %v", what, st, err)
		}
	}
	if b, _ := os.ReadFile(secret); string(b) != "secret" {
		t.Errorf("the secret is %q", b)
	}
	// A magic link leads out of every root directory.
	pid := victim(t, "/", 0)
	if _, err := fileOf(pid, "/proc/self/root/tmp/core").Write(strings.NewReader("core")); !errors.Is(err, unix.ELOOP) {
		t.Error(err)
	}
}

func TestPathsAreThoseOfTheProcess(t *testing.T) {
	jail := directory(t, nobody)
	for _, d := range []string{"cores", "work"} {
		if err := os.Mkdir(filepath.Join(jail, d), 0o777); err != nil {
			t.Fatal(err)
		}
		os.Chmod(filepath.Join(jail, d), 0o777)
	}
	// A link that leads out of the jail as we see it, and stays in it as the process does.
	if err := os.Symlink("/cores", filepath.Join(jail, "link")); err != nil {
		t.Fatal(err)
	}
	pid := victim(t, "/", 0, func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args = "/usr/sbin/chroot", nil
		cmd.Dir, cmd.SysProcAttr = "/", nil
		copyStatic(t, filepath.Join(jail, "wait"))
		cmd.Args = []string{"chroot", "--userspec=65534:65534", jail, "/wait"}
		cmd.Env = []string{"COREDUMP_TEST_WAIT=1"}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		ready = out
	})
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for path, expected := range map[string]string{"/cores/a": "cores/a", "../../../cores/b": "cores/b", "/link/c": "cores/c", "work/d": "work/d"} {
		if _, err := fileOf(pid, path).Write(strings.NewReader("core")); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if st, err := os.Lstat(filepath.Join(jail, expected)); err != nil || st.Sys().(*syscall.Stat_t).Uid != nobody {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// copyStatic puts a program there that needs nothing else and waits.
func copyStatic(t *testing.T, name string) {
	t.Helper()
	source := filepath.Join(t.TempDir(), "wait.go")
	program := "package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.Write([]byte{10}); os.Stdin.Close(); select {} }\n"
	program = strings.Replace(program, "select {}", "r, _, _ := os.Pipe(); r.Read(make([]byte, 1))", 1)
	if err := os.WriteFile(source, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", name, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestTheLimitOfCoresIsObeyed(t *testing.T) {
	dir := directory(t, nobody)
	pid := victim(t, dir, nobody)
	for limit, expected := range map[uint64]int64{pageSize: pageSize, 2*pageSize + 100: 2 * pageSize, 3 * pageSize: 103 * pageSize, 1 << 30: int64(len(core()))} {
		f := fileOf(pid, "core")
		f.Limit = limit
		n, err := f.Write(bytes.NewReader(core()))
		st, serr := os.Stat(filepath.Join(dir, "core"))
		if err != nil || serr != nil || n != expected || st.Size() != expected {
			t.Errorf("%d: %d bytes, want %d: %v %v", limit, n, expected, err, serr)
		}
	}
	os.Remove(filepath.Join(dir, "core"))
	for what, change := range map[string]func(*File){
		"no core wanted":        func(f *File) { f.Limit = 0 },
		"less than a page":      func(f *File) { f.Limit = pageSize - 1 },
		"not dumpable":          func(f *File) { f.Dumpable = 0 },
		"root's, but not where": func(f *File) { f.Dumpable = 2 },
		"no name":               func(f *File) { f.Path = "" },
	} {
		f := fileOf(pid, "core")
		change(&f)
		if _, err := f.Write(bytes.NewReader(core())); err != ErrNotWanted {
			t.Errorf("%s: %v", what, err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%v", left)
	}
}

func TestTheLimitOfFilesIsObeyed(t *testing.T) {
	dir := directory(t, nobody)
	pid := victim(t, dir, nobody, func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", "ulimit -f 80; echo; exec sleep 1000"} // blocks of 512 bytes
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		ready = out
	})
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if n, err := fileOf(pid, "core").Write(bytes.NewReader(core())); err != nil || n != 10*pageSize {
		t.Error(n, err)
	}
}

func TestP12_ADumpOfAPrivilegedProcessIsRootsAlone(t *testing.T) {
	dir := directory(t, nobody)
	f := fileOf(victim(t, dir, nobody), filepath.Join(dir, "core"))
	f.Dumpable = 2
	if _, err := f.Write(strings.NewReader("core")); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(f.Path); err != nil || st.Sys().(*syscall.Stat_t).Uid != 0 || st.Mode().Perm() != 0o600 {
		t.Error(st, err)
	}
	if _, err := f.Write(strings.NewReader("more")); !errors.Is(err, unix.EEXIST) {
		t.Errorf("what is there was removed: %v", err)
	}
}

func TestAProcessThatIsGoneGetsNoFile(t *testing.T) {
	dir := directory(t, nobody)
	gone := errors.New("gone")
	f := fileOf(victim(t, dir, nobody), "core")
	f.Verify = func() error { return gone }
	if _, err := f.Write(bytes.NewReader(core())); !errors.Is(err, gone) {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%v", left)
	}
}

func TestAfterwardsThisProcessHasTheRightsItHad(t *testing.T) {
	dir := directory(t, nobody)
	if _, err := fileOf(victim(t, dir, nobody), "core").Write(strings.NewReader("core")); err != nil {
		t.Fatal(err)
	}
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		// The thread that did it ends soon.
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			b, err := os.ReadFile(task)
			if err != nil || bytes.Contains(b, []byte("Uid:\t0\t0\t0\t0\n")) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s has other rights: %s", task, b)
			}
		}
	}
	if wd, err := os.Getwd(); err != nil || wd == dir {
		t.Error(wd, err)
	}
}

func FuzzRights(f *testing.F) {
	b, _ := os.ReadFile("/proc/self/status")
	f.Add(b)
	f.Add([]byte("Uid:\t1\t2\t3\t4\nGid:\t1\t2\t3\t4\nGroups:\t4 5 \nCapEff:\t000001ffffffffff\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRights(b)
		if err == nil && (r.fsuid < 0 || r.fsgid < 0) {
			t.Errorf("%+v", r)
		}
	})
}

func TestTheProgramRunsOnTheHostWithWhatTheKernelWouldGiveIt(t *testing.T) {
	dir := kerneltest.Dir(t)
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Skip(err)
	}
	fd := os.NewFile(uintptr(pidfd), "pidfd")
	defer fd.Close()
	t.Setenv("SECRET", "x")
	script := `cat >` + dir + `/core; { pwd; cat /proc/self/environ | tr '\0' '\n' | grep SECRET; readlink /proc/self/fd/3 | tr -d '0-9:[]'; ulimit -c; for a; do echo "$a"; done; } >` + dir + `/facts`
	stream := io.NopCloser(bytes.NewReader(core()))
	err = Program{Args: []string{"/bin/sh", "-c", script, "sh", "a b", ""}, PIDFD: fd, Namespaces: "/proc/self/ns"}.Run(context.Background(), stream)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(dir + "/core"); err != nil || !bytes.Equal(b, core()) {
		t.Errorf("%d bytes: %v", len(b), err)
	}
	facts, _ := os.ReadFile(dir + "/facts")
	if lines := strings.Split(string(facts), "\n"); len(lines) != 6 || lines[0] != "/" || !strings.Contains(lines[1], "pidfd") || lines[3] != "a b" || lines[4] != "" {
		t.Errorf("%q", lines)
	}
}

func TestAProgramThatLeavesEarlyEndsTheStream(t *testing.T) {
	r, w, err := os.Pipe() // nobody writes to it, and it stays open
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := (Program{Args: []string{"/bin/true"}, Namespaces: "/proc/self/ns"}).Run(context.Background(), r); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r, w2, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w2.Close()
	cancel()
	if err := (Program{Args: []string{"/bin/sleep", "1000"}, Namespaces: "/proc/self/ns"}).Run(ctx, r); err == nil {
		t.Error("it was not killed")
	}
	if err := (Program{Args: []string{"/no/such"}, Namespaces: "/proc/self/ns"}).Run(context.Background(), io.NopCloser(r)); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestTheProgramRunsInTheHostsNamespaces(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: needs root to make a mount namespace")
	}
	dir := kerneltest.Dir(t)
	out := filepath.Join(dir, "facts")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "COREDUMP_TEST_RUN="+out)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWNET}
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	ours, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(out); err != nil || string(b) != ours+"\n/\n" {
		t.Errorf("%q %v, want %q", b, err, ours)
	}
}
