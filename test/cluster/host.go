// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sysctls are what kubelet and node handler set for the whole machine. The order matters when they are put back: whoever crashes while we are at it meets
// no helper that is gone.
var sysctls = []string{
	"kernel/core_pattern", "kernel/core_pipe_limit", "fs/suid_dumpable",
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

// outsideDirs are where programs of a node write whatever their configuration says. Those that are not there before a run are removed after it.
var outsideDirs = []string{
	"/var/coredump", "/opt/coredump", "/run/coredump", "/var/lib/kubelet", "/var/lib/cni", "/var/log/containers", "/var/log/pods", "/run/containerd", "/run/netns",
	"/opt/containerd", "/etc/cni", "/usr/libexec/kubernetes",
}

// podCgroups are cgroups of kubelet and runc in every hierarchy.
var podCgroups = []string{"kubepods", "k8s.io"}

// state is what a run has to put back. It is written before anything is changed.
type state struct {
	Sysctls map[string]string
	// Absent are the directories that were not there, Empty those that had nothing in them.
	Absent, Empty []string
}

func stateFile(dir string) string { return filepath.Join(dir, "state.json") }

// ErrInUse means that a node needs something of this machine that somebody else has.
var ErrInUse = errors.New("another node, or a container runtime, runs on this machine")

// prepare makes dir and writes down how the machine is.
func prepare(dir string) error {
	s := state{Sysctls: map[string]string{}}
	for _, h := range hierarchies() {
		for _, name := range append(podCgroups, cgroupName) {
			if populated(filepath.Join(h, name)) {
				return fmt.Errorf("%w: processes are in %s", ErrInUse, filepath.Join(h, name))
			}
		}
	}
	for _, name := range sysctls {
		if value, err := os.ReadFile(filepath.Join("/proc/sys", name)); err == nil {
			s.Sysctls[name] = strings.TrimSuffix(string(value), "\n")
		}
	}
	// Of a run whose state is lost, or of a test that was killed: nothing is there any more that would take a dump.
	if pattern := s.Sysctls["kernel/core_pattern"]; strings.Contains(pattern, "coredump") || strings.Contains(pattern, os.TempDir()+"/") {
		s.Sysctls["kernel/core_pattern"], s.Sysctls["kernel/core_pipe_limit"] = "core", "0"
	}
	for _, d := range outsideDirs {
		entries, err := os.ReadDir(d)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			s.Absent = append(s.Absent, d)
		case err == nil && len(entries) == 0:
			s.Empty = append(s.Empty, d)
		}
	}
	for _, d := range []string{"/var/coredump", "/opt/coredump", filepath.Dir(criSocket), podLogs} {
		if entries, _ := os.ReadDir(d); len(entries) > 0 {
			return fmt.Errorf("%w: %s is not empty", ErrInUse, d)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(stateFile(dir), data, 0o600)
}

// cleanUp puts the machine back to how the state in dir says it was. Without a state it does nothing.
func cleanUp(dir string) error {
	data, err := os.ReadFile(stateFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var s state
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return fmt.Errorf("state of the last run: %w", err)
	}
	if err := errors.Join(restoreSysctls(s), endAll(), unmountBelow(slices.Concat(s.Absent, s.Empty, []string{dir})...)); err != nil {
		return err // the state stays, so that the next run tries again, and nothing is removed through a mount
	}
	errs := []error{keepLogs(dir)}
	for _, d := range s.Absent {
		errs = append(errs, os.RemoveAll(d))
	}
	for _, d := range s.Empty {
		entries, _ := os.ReadDir(d)
		for _, e := range entries {
			errs = append(errs, os.RemoveAll(filepath.Join(d, e.Name())))
		}
	}
	errs = append(errs, restoreSysctls(s)) // again: until a moment ago somebody was there who heals them
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

func restoreSysctls(s state) error {
	var errs []error
	for _, name := range sysctls {
		value, known := s.Sysctls[name]
		path := filepath.Join("/proc/sys", name)
		if now, err := os.ReadFile(path); !known || err == nil && strings.TrimSuffix(string(now), "\n") == value {
			continue
		}
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// hierarchies are the directories that cgroups can be in: one with v2 alone, many with v1.
func hierarchies() []string {
	mounts, _ := filepath.Glob("/sys/fs/cgroup/*")
	return append([]string{"/sys/fs/cgroup"}, mounts...)
}

// endPatience is how long killed processes may take to be gone: those that dump core are slower.
const endPatience = 30 * time.Second

// endAll kills every process of the run's cgroup and of the pods', and removes the cgroups.
func endAll() error {
	var dirs []string
	for _, h := range hierarchies() {
		// The run's own first: kubelet and containerd start no more pods then.
		for _, name := range append([]string{cgroupName}, podCgroups...) {
			if dir := filepath.Join(h, name); isDir(dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return rank(a) - rank(b) })
	var errs []error
	for _, dir := range dirs {
		if err := endCgroup(dir); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func rank(dir string) int {
	if filepath.Base(dir) == cgroupName {
		return 0
	}
	return 1
}

// populated tells whether processes are in a cgroup or below it. Empty ones are anybody's, and a kubelet removes them too.
func populated(dir string) (found bool) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			procs, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
			found = found || len(procs) > 0
		}
		return nil
	})
	return found
}

func isDir(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

// endCgroup kills what is in the cgroup and in those below it until nothing is, and removes them, the deepest first.
func endCgroup(dir string) error {
	var err error
	for deadline := time.Now().Add(endPatience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		var all []string
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				all = append(all, path)
			}
			return nil
		})
		slices.Reverse(all)
		err = nil
		for _, d := range all {
			_ = os.WriteFile(filepath.Join(d, "cgroup.kill"), []byte("1"), 0)
			procs, _ := os.ReadFile(filepath.Join(d, "cgroup.procs"))
			for field := range bytes.FieldsSeq(procs) {
				if pid, e := strconv.Atoi(string(field)); e == nil && pid > 1 {
					_ = unix.Kill(pid, unix.SIGKILL)
				}
			}
			if e := unix.Rmdir(d); e != nil && e != unix.ENOENT {
				err = fmt.Errorf("remove cgroup %s: %w", d, e)
			}
		}
		if err == nil {
			return nil
		}
	}
	return err
}

// unmountBelow unmounts everything in the directories, the last mounted first.
func unmountBelow(dirs ...string) error {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var errs []error
	lines := strings.Split(string(info), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := fields[4]
		if !slices.ContainsFunc(dirs, func(d string) bool { return point == d || strings.HasPrefix(point, d+"/") }) {
			continue
		}
		if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL {
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}

// keepLogs moves the logs of the run to where they outlive it.
func keepLogs(dir string) error {
	logs := dir + ".logs"
	if err := os.RemoveAll(logs); err != nil {
		return err
	}
	if err := os.Mkdir(logs, 0o755); err != nil {
		return err
	}
	for _, pattern := range []string{"*.log", "*/s3server.log"} {
		files, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, f := range files {
			if err := os.Rename(f, filepath.Join(logs, filepath.Base(f))); err != nil {
				return err
			}
		}
	}
	if isDir(podLogs) {
		return os.CopyFS(filepath.Join(logs, "pods"), os.DirFS(podLogs))
	}
	return nil
}
