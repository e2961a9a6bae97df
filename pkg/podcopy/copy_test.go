// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package podcopy

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const user, group = 1000, 1001

var owner = Owner{UID: user, GID: group}

func newCopier(t *testing.T) *Copier {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: only root can take the rights of somebody else")
	}
	c := New(Limits{MaxSize: 1 << 30, Preparing: 4, Writing: 4})
	c.memory = true // the temporary directory may be one
	return c
}

// container makes a root directory with a directory /data in it that belongs to the user.
func container(t *testing.T) (path string, root *os.File) {
	t.Helper()
	path = t.TempDir()
	must(t, os.Chmod(path, 0o755))
	must(t, os.Mkdir(filepath.Join(path, "data"), 0o700))
	must(t, os.Chown(filepath.Join(path, "data"), user, group))
	return path, openRoot(t, path)
}

func openRoot(t *testing.T, path string) *os.File {
	t.Helper()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { f.Close() })
	return f
}

// aCore makes a file with data, a hole of 16 MiB, data, and a hole at its end.
func aCore(t *testing.T) (*os.File, []byte) {
	t.Helper()
	b := make([]byte, 40<<20)
	copy(b, bytes.Repeat([]byte("head"), 1<<18))
	copy(b[20<<20:], bytes.Repeat([]byte("body"), 3<<18))
	f, err := os.CreateTemp(t.TempDir(), "core")
	must(t, err)
	t.Cleanup(func() { f.Close() })
	_, err = f.WriteAt(b[:1<<20], 0)
	must(t, err)
	_, err = f.WriteAt(b[20<<20:23<<20], 20<<20)
	must(t, err)
	must(t, f.Truncate(int64(len(b))))
	return f, b
}

func copyOnce(t *testing.T, c *Copier, root, core *os.File, pattern string) (*Target, error) {
	t.Helper()
	return copyAs(t, c, root, core, pattern, owner)
}

func copyAs(t *testing.T, c *Copier, root, core *os.File, pattern string, o Owner) (*Target, error) {
	t.Helper()
	target, err := c.Prepare(t.Context(), root, pattern, values, o, 1)
	if err != nil {
		return nil, err
	}
	_, err = target.Write(t.Context(), core)
	return target, err
}

func TestACopyAppearsWholeSparseAndOwnedByTheProcess(t *testing.T) {
	for _, nameless := range []bool{true, false} {
		c := newCopier(t)
		c.nameless = nameless
		path, root := container(t)
		core, want := aCore(t)
		_, err := core.Seek(5, 0)
		must(t, err)
		target, err := copyOnce(t, c, root, core, "/data/core-%f-%p")
		must(t, err)
		if target.Path() != "/data/core-server-7" {
			t.Errorf("path %s", target.Path())
		}
		got, err := os.ReadFile(filepath.Join(path, target.Path()))
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Error("the copy differs")
		}
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(path, target.Path()), &st))
		if st.Uid != user || st.Gid != group || st.Mode != unix.S_IFREG|0o600 || st.Nlink != 1 || st.Blocks*512 > 8<<20 {
			t.Errorf("%+v", st)
		}
		if names := list(t, filepath.Join(path, "data")); len(names) != 1 {
			t.Errorf("left %v", names)
		}
		if at, _ := core.Seek(0, 1); at != 5 {
			t.Error("the caller's position has changed")
		}
		if _, err := target.Write(t.Context(), core); !errors.Is(err, os.ErrClosed) {
			t.Errorf("written twice: %v", err)
		}
		if c.Hung() != 0 || len(c.writing) != 0 || len(c.preparing) != 0 {
			t.Error("something is still under way")
		}
	}
}

func TestNothingIsWrittenThatTheProcessCouldNotWrite(t *testing.T) {
	c := newCopier(t)
	path, root := container(t)
	core, _ := aCore(t)
	must(t, os.Mkdir(filepath.Join(path, "others"), 0o755))
	must(t, os.Mkdir(filepath.Join(path, "hidden"), 0o700))
	must(t, os.Mkdir(filepath.Join(path, "hidden/data"), 0o777))
	must(t, os.Mkdir(filepath.Join(path, "shared"), 0))
	must(t, os.Chown(filepath.Join(path, "shared"), 0, 2000))
	must(t, os.Chmod(filepath.Join(path, "shared"), 0o2770|fs.ModeSetgid))
	for _, pattern := range []string{"/others/core", "/hidden/data/core", "/shared/core", "/core"} {
		if _, err := copyOnce(t, c, root, core, pattern); !errors.Is(err, unix.EACCES) {
			t.Errorf("%s: %v", pattern, err)
		}
	}
	// What fsGroup of a pod is for.
	target, err := c.Prepare(t.Context(), root, "/shared/core", values, Owner{UID: user, GID: group, Groups: []uint32{5, 2000}}, 1)
	must(t, err)
	_, err = target.Write(t.Context(), core)
	must(t, err)
	// Root in the container has no more rights than a file's owner.
	must(t, os.Chmod(filepath.Join(path, "data"), 0o700))
	if target, err = c.Prepare(t.Context(), root, "/data/core", values, Owner{}, 1); err == nil {
		_, err = target.Write(t.Context(), core)
	}
	if !errors.Is(err, unix.EACCES) {
		t.Errorf("root without capabilities: %v", err)
	}
}

func TestTheRightsOfOtherThreadsStayAsTheyWere(t *testing.T) {
	newCopier(t)
	for range 50 {
		must(t, as(owner, func() error {
			if uid, _ := unix.SetfsuidRetUid(-1); uid != user {
				return errors.New("not the owner's rights")
			}
			return nil
		}))
	}
	entries, err := os.ReadDir("/proc/self/task")
	must(t, err)
	for _, e := range entries {
		status, err := os.ReadFile("/proc/self/task/" + e.Name() + "/status")
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		must(t, err)
		for line := range strings.Lines(string(status)) {
			if f := strings.Fields(line); f[0] == "Uid:" && f[4] != "0" || f[0] == "CapEff:" && strings.Trim(f[1], "0") == "" {
				t.Errorf("thread %s of %d: %s", e.Name(), runtime.NumGoroutine(), line)
			}
		}
	}
}

func TestP12_ADumpOfAPrivilegedProcessIsNotCopied(t *testing.T) {
	c := newCopier(t)
	_, root := container(t)
	if _, err := c.Prepare(t.Context(), root, "/data/core", values, owner, 2); Reason(err) != "refused" {
		t.Errorf("%v", err)
	}
}

func TestLimitsOfCopies(t *testing.T) {
	c := newCopier(t)
	path, root := container(t)
	core, b := aCore(t)
	c.limits.MaxSize = int64(len(b)) - 1
	if _, err := copyOnce(t, c, root, core, "/data/core"); Reason(err) != "too-large" {
		t.Errorf("%v", err)
	}
	c.limits.MaxSize++
	c.limits.FreePercent = 100
	if _, err := copyOnce(t, c, root, core, "/data/core"); Reason(err) != "no-space" {
		t.Errorf("%v", err)
	}
	c.limits.FreePercent = 0
	ctx, cancel := context.WithCancel(t.Context())
	target, err := c.Prepare(ctx, root, "/data/core", values, owner, 1)
	must(t, err)
	cancel()
	if _, err := target.Write(ctx, core); Reason(err) != "deadline" {
		t.Errorf("%v", err)
	}
	if names := list(t, filepath.Join(path, "data")); len(names) != 0 {
		t.Errorf("left %v", names)
	}
	if _, err := copyOnce(t, c, root, core, "/data/core"); err != nil {
		t.Errorf("within the limits: %v", err)
	}
}

func TestAPartOfACopyIsRemoved(t *testing.T) {
	for _, nameless := range []bool{true, false} {
		c := newCopier(t)
		c.nameless = nameless
		c.sync = func(int) error { return unix.ENOSPC }
		path, root := container(t)
		core, _ := aCore(t)
		if _, err := copyOnce(t, c, root, core, "/data/core"); Reason(err) != "no-space" {
			t.Errorf("%v", err)
		}
		if names := list(t, filepath.Join(path, "data")); len(names) != 0 {
			t.Errorf("left %v", names)
		}
	}
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
