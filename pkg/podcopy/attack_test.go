// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package podcopy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func TestP10_NoLinkIsFollowed(t *testing.T) {
	for _, nameless := range []bool{true, false} {
		c := newCopier(t)
		c.nameless = nameless
		path, root := container(t)
		// Root's rights, which lead everywhere here, so that nothing but the way of looking names up is in the way.
		must(t, os.Chmod(filepath.Join(path, "data"), 0o777))
		core, _ := aCore(t)
		outside := t.TempDir()
		must(t, os.Chmod(outside, 0o777))
		victim := filepath.Join(outside, "victim")
		must(t, os.WriteFile(victim, []byte("mine"), 0o666))
		must(t, os.Mkdir(filepath.Join(path, "data/sub"), 0o777))
		must(t, os.Chmod(filepath.Join(path, "data/sub"), 0o777))
		for link, to := range map[string]string{
			"data/out": outside, "data/in": "sub", "data/root": "/", "data/self": "/proc/self/root", "data/file": victim, "data/dangling": outside + "/new",
		} {
			must(t, os.Symlink(to, filepath.Join(path, link)))
		}
		for _, pattern := range []string{"/data/out/core", "/data/in/core", "/data/root/data/core", "/data/self/core"} {
			if _, err := copyAs(t, c, root, core, pattern, Owner{}); Reason(err) != "refused" {
				t.Errorf("%s: %v", pattern, err)
			}
		}
		for _, pattern := range []string{"/data/file", "/data/dangling"} {
			if _, err := copyAs(t, c, root, core, pattern, Owner{}); Reason(err) != "exists" {
				t.Errorf("%s: %v", pattern, err)
			}
		}
		if b, err := os.ReadFile(victim); string(b) != "mine" || len(list(t, outside)) != 1 {
			t.Errorf("outside was written: %q, %v, %v", b, err, list(t, outside))
		}
	}
}

func TestP10_WhatExistsIsNotTouched(t *testing.T) {
	for _, nameless := range []bool{true, false} {
		c := newCopier(t)
		c.nameless = nameless
		path, root := container(t)
		core, _ := aCore(t)
		data := filepath.Join(path, "data")
		must(t, unix.Mkfifo(filepath.Join(data, "fifo"), 0o666))
		must(t, unix.Mknod(filepath.Join(data, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		must(t, os.Mkdir(filepath.Join(data, "dir"), 0o777))
		must(t, os.WriteFile(filepath.Join(data, "file"), []byte("mine"), 0o666))
		for _, name := range []string{"fifo", "null", "dir", "file"} {
			if _, err := copyOnce(t, c, root, core, "/data/"+name); Reason(err) != "exists" {
				t.Errorf("%s: %v", name, err)
			}
			if name == "dir" {
				continue
			}
			// As a directory on the way; a FIFO would block whoever opens it.
			if _, err := copyOnce(t, c, root, core, "/data/"+name+"/core"); Reason(err) != "refused" {
				t.Errorf("%s: %v", name, err)
			}
		}
		if b, _ := os.ReadFile(filepath.Join(data, "file")); !bytes.Equal(b, []byte("mine")) {
			t.Errorf("the file holds %d bytes", len(b))
		}
		if names := list(t, data); len(names) != 4 {
			t.Errorf("left %v", names)
		}
	}
}

func TestP10_ADirectoryThatIsSwappedForALinkLeadsNowhere(t *testing.T) {
	c := newCopier(t)
	c.sync = func(int) error { return nil }
	path, root := container(t)
	// Root's rights, which lead everywhere here, so that nothing but the way of looking names up is in the way.
	must(t, os.Chmod(filepath.Join(path, "data"), 0o777))
	outside := t.TempDir()
	must(t, os.Chmod(outside, 0o777))
	must(t, os.Mkdir(filepath.Join(outside, "sub"), 0o777))
	must(t, os.Chmod(filepath.Join(outside, "sub"), 0o777))
	must(t, os.MkdirAll(filepath.Join(path, "data/a/sub"), 0o777))
	must(t, os.Chmod(filepath.Join(path, "data/a"), 0o777))
	must(t, os.Chmod(filepath.Join(path, "data/a/sub"), 0o777))
	must(t, os.Symlink(outside, filepath.Join(path, "data/b")))
	small, err := os.CreateTemp(t.TempDir(), "core")
	must(t, err)
	defer small.Close()
	_, err = small.WriteString("core")
	must(t, err)

	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		a, b := filepath.Join(path, "data/a"), filepath.Join(path, "data/b")
		for !stop.Load() {
			if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
				t.Error(err)
				return
			}
		}
	})
	copied, refused := 0, 0
	for i := range 10_000 {
		c.nameless = i%2 == 0
		switch _, err := copyAs(t, c, root, small, fmt.Sprintf("/data/a/sub/core-%d", i), Owner{}); {
		case err == nil:
			copied++
		case Reason(err) == "refused":
			refused++
		default:
			t.Fatal(err)
		}
	}
	stop.Store(true)
	wg.Wait()
	if copied == 0 || refused == 0 {
		t.Errorf("no race: %d copied, %d refused", copied, refused)
	}
	if escaped := append(list(t, outside), list(t, filepath.Join(outside, "sub"))...); len(escaped) != 1 {
		t.Errorf("%d of 10000 copies escaped", len(escaped)-1)
	}
	t.Logf("%d copied, %d refused", copied, refused)
}

// inMountNamespace calls f in a mount namespace of its own. Descriptors that f opens work everywhere.
func inMountNamespace(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends, and the namespace with its last descriptor
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	must(t, <-done)
}

func TestP10_MountsOfTheContainer(t *testing.T) {
	c := newCopier(t)
	c.memory = false
	path, _ := container(t)
	core, _ := aCore(t)
	volume := t.TempDir()
	must(t, os.Chmod(volume, 0o777))
	for _, dir := range []string{"proc1", "sys1", "tmp", "readonly", "volume"} {
		must(t, os.Mkdir(filepath.Join(path, dir), 0o777))
	}
	at := func(name string) string { return filepath.Join(path, name) }
	var root *os.File
	inMountNamespace(t, func() {
		for _, err := range []error{
			unix.Mount("proc", at("proc1"), "proc", 0, ""),
			unix.Mount("sysfs", at("sys1"), "sysfs", 0, ""),
			unix.Mount("tmpfs", at("tmp"), "tmpfs", 0, "mode=777,size=64m"),
			unix.Mount(volume, at("readonly"), "", unix.MS_BIND, ""),
			unix.Mount("", at("readonly"), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""),
			unix.Mount(volume, at("volume"), "", unix.MS_BIND, ""),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		root = openRoot(t, path)
		for _, pattern := range []string{"/proc1/core", "/proc1/self/core", "/sys1/core", "/tmp/core"} {
			if _, err := copyOnce(t, c, root, core, pattern); Reason(err) != "refused" {
				t.Errorf("%s: %v", pattern, err)
			}
		}
		c.memory = true
		if _, err := copyOnce(t, c, root, core, "/readonly/core"); !errors.Is(err, unix.EROFS) {
			t.Errorf("a volume that is mounted read-only: %v", err)
		}
		target, err := c.Prepare(t.Context(), root, "/volume/core", values, owner, 1)
		if err != nil {
			t.Error(err)
			return
		}
		// The container ends: its mounts go.
		if err := unix.Unmount(at("volume"), unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
		if _, err := target.Write(t.Context(), core); err != nil {
			t.Errorf("after the container ended: %v", err)
		}
		if names := list(t, volume); len(names) != 1 || names[0] != "core" {
			t.Errorf("the volume has %v", names)
		}
		// A volume that is full.
		if target, err = c.Prepare(t.Context(), root, "/tmp/core", values, owner, 1); err == nil {
			if err = os.WriteFile(at("tmp/fill"), make([]byte, 62<<20), 0o600); err == nil {
				_, err = target.Write(t.Context(), core)
			}
		}
		if Reason(err) != "no-space" {
			t.Errorf("a full volume: %v", err)
		}
	})
}

func TestP10_AFileSystemThatHangsIsAbandoned(t *testing.T) {
	c := newCopier(t)
	path, _ := container(t)
	core, _ := aCore(t)
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("NOT TESTED: no FUSE here:", err)
	}
	inMountNamespace(t, func() {
		if err := unix.Mount("hang", filepath.Join(path, "data"), "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40777,user_id=0,group_id=0", dev)); err != nil {
			t.Error(err)
		}
		root := openRoot(t, path)
		// Nobody ever answers: looking up the directory waits for ever.
		for range c.limits.Preparing {
			ctx, cancel := context.WithCancel(t.Context())
			before := len(c.preparing)
			go func() {
				for len(c.preparing) == before {
					runtime.Gosched()
				}
				cancel()
			}()
			if _, err := c.Prepare(ctx, root, "/data/sub/core", values, Owner{}, 1); Reason(err) != "hung" {
				t.Errorf("%v", err)
			}
		}
		if c.Hung() != c.limits.Preparing {
			t.Errorf("%d are counted as hung", c.Hung())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Prepare(ctx, root, "/other/core", values, owner, 1); Reason(err) != "busy" {
			t.Errorf("with all hung: %v", err)
		}
		// Ends the connection, and with it all that waits.
		if err := unix.Close(dev); err != nil {
			t.Error(err)
		}
		for c.Hung() > 0 || len(c.preparing) > 0 {
			runtime.Gosched()
		}
	})
	other, root := container(t)
	if _, err := copyOnce(t, c, root, core, "/data/core"); err != nil || len(list(t, filepath.Join(other, "data"))) != 1 {
		t.Errorf("afterwards: %v", err)
	}
}
