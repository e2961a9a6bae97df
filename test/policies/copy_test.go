// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/podcopy"
	"example.io/coredump/test/required"
)

// copyTo makes the test binary write a copy into a container whose root directory it names, and nothing else.
const copyTo = "COREDUMP_TEST_COPY_TO"

func TestMain(m *testing.M) {
	if root := os.Getenv(copyTo); root != "" {
		if err := writeCopy(root); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func writeCopy(path string) error {
	root, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	core, err := os.CreateTemp(filepath.Dir(path), "core")
	if err != nil {
		return err
	}
	defer core.Close()
	if _, err := core.WriteString("the core"); err != nil {
		return err
	}
	c := podcopy.New(podcopy.Limits{MaxSize: 1 << 20, Preparing: 1, Writing: 1})
	owner := podcopy.Owner{UID: user, GID: user, Groups: []uint32{2000}}
	target, err := c.Prepare(context.Background(), root, "/data/core", podcopy.Values{}, owner, 1)
	if err != nil {
		return err
	}
	_, err = target.Write(context.Background(), core)
	return err
}

// SETUID and SETGID are there for one thing: a copy is written with the rights of the process that crashed, and no others.
func TestCopiesNeedTheCapabilitiesThatAreThereForThem(t *testing.T) {
	if _, err := exec.LookPath("setpriv"); err != nil || os.Geteuid() != 0 {
		required.Missing(t, "needs root and setpriv (util-linux)")
	}
	all := capabilities(t)
	for _, without := range []string{"", "setuid", "setgid", "dac_override", "fowner", "lease"} {
		t.Run("without "+without, func(t *testing.T) {
			root := container(t)
			set := "-all"
			for _, c := range slices.DeleteFunc(slices.Clone(all), func(c string) bool { return c == without }) {
				set += ",+" + c
			}
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("setpriv", "--bounding-set="+set, "--inh-caps=-all", "--no-new-privs", exe)
			cmd.Env = append(os.Environ(), copyTo+"="+root)
			out, err := cmd.CombinedOutput()
			needed := strings.HasPrefix(without, "set")
			if (err != nil) != needed {
				t.Fatalf("%v\n%s", err, out)
			}
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(root, "data/core"), &st); !needed && (err != nil || st.Uid != user || st.Gid != user) {
				t.Errorf("%v: it belongs to %d:%d", err, st.Uid, st.Gid)
			}
		})
	}
}

// container makes the root directory of a container that is not in memory, where copies are refused, with a directory "data" of the user.
func container(t *testing.T) string {
	t.Helper()
	for _, base := range []string{t.TempDir(), "."} {
		dir, err := os.MkdirTemp(base, "container")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		if st.Type == unix.TMPFS_MAGIC {
			continue
		}
		root, err := filepath.Abs(filepath.Join(dir, "root"))
		if err != nil {
			t.Fatal(err)
		}
		data := filepath.Join(root, "data")
		for _, err := range []error{os.Chmod(dir, 0o755), os.MkdirAll(data, 0o755), os.Chown(data, user, user)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return root
	}
	t.Skip("SKIPPED, NOT PASSED: all file systems here are in memory")
	return ""
}
