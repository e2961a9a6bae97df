// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture/initns"
	"example.io/coredump/pkg/capture/kerneltest"
)

// inContainer does what a container does in a test, in a mount namespace of its own, with the script's preparations.
func inContainer(t *testing.T, script, what, dir string) {
	t.Helper()
	cmd := exec.Command("unshare", "--mount", "/bin/sh", "-ec", script, "sh", "/proc/self/exe")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args[len(cmd.Args)-1] = exe
	cmd.Env = append(os.Environ(), "COREDUMP_TEST_CONTAINER="+what, "COREDUMP_TEST_DIR="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", what, err, out)
	}
}

// contained is the other side of inContainer.
func contained(what, dir string) error {
	h := &Host{Dir: dir, HostDir: dir, Socket: "/run/coredump-test/core.sock", ProcSys: "/proc/sys", Namespaces: initns.Dir()}
	switch what {
	case "socket":
		pattern, err := SocketPattern(h.Socket)
		if err == nil {
			_, err = h.Apply(Values{CorePattern: pattern, CorePipeLimit: "16"}, false)
		}
		return err
	case "pipe":
		pattern, err := h.Install("/bin/true", []byte("{}"))
		if err == nil {
			_, err = h.Apply(Values{CorePattern: pattern, CorePipeLimit: "16", SuidDumpable: "2"}, false)
		}
		return err
	case "uninstall":
		_, err := h.Uninstall()
		return err
	}
	return errors.New("unknown")
}

func real() *Host {
	return &Host{Dir: "/none", HostDir: "/none", ProcSys: "/proc/sys", Namespaces: initns.Dir()}
}

func TestASocketIsSetFromAContainerByTheHostsMountNamespace(t *testing.T) {
	kerneltest.Sockets(t)
	dir := filepath.Join(kerneltest.Dir(t), "h")
	kerneltest.Have(t, "", "0")
	was := settings(t, real())
	inContainer(t, `exec "$1"`, "socket", dir)
	if got := kerneltest.Get(t, "kernel/core_pattern"); got != "@@/run/coredump-test/core.sock" {
		t.Errorf("%q", got)
	}
	inContainer(t, `exec "$1"`, "uninstall", dir)
	if now := settings(t, real()); !maps.Equal(now, was) {
		t.Errorf("%v, was %v", now, was)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
}

// TestPipesAreSetWithoutAnyCapability: user 0 may write the host's settings. The directory is a mount of its own, as a hostPath is.
func TestPipesAreSetWithoutAnyCapability(t *testing.T) {
	dir := filepath.Join(kerneltest.Dir(t), "h")
	kerneltest.Have(t, "", "0")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	was := settings(t, real())
	const mount, drop = `mount --bind "$COREDUMP_TEST_DIR" "$COREDUMP_TEST_DIR"; `, `exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$1"`
	inContainer(t, mount+drop, "pipe", dir)
	got := settings(t, real())
	if !strings.HasPrefix(got[CorePattern], "|"+dir+"/corepipe-") || got[CorePipeLimit] != "16" || got[SuidDumpable] != "2" {
		t.Errorf("%v", got)
	}
	inContainer(t, mount+`exec "$1"`, "uninstall", dir)
	if now := settings(t, real()); !maps.Equal(now, was) {
		t.Errorf("%v, was %v", now, was)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory, a mount point for the container, is left: %v", err)
	}
}

func TestAFileSystemWithoutProgramsIsToldFromTheStart(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: needs root to mount")
	}
	h := newMachine(t, before)
	if err := os.Mkdir(h.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", h.Dir, "tmpfs", unix.MS_NOEXEC, ""); err != nil {
		t.Skip("NOT TESTED: ", err)
	}
	defer unix.Unmount(h.Dir, 0)
	os.Chmod(h.Dir, 0o755)
	if err := install(h, "1"); !errors.Is(err, ErrNoExec) {
		t.Error(err)
	}
	if got := settings(t, h); !maps.Equal(got, before) {
		t.Errorf("%v", got)
	}
}
