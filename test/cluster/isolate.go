// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Addresses inside the network namespace that Isolated makes. No packet to any of them leaves it.
const (
	// NodeAddress is where kubelet, the store and whatever else pods talk to listens.
	NodeAddress = "10.99.0.1"
	// serviceAddress is the first of the range of Services: the API server's. It is on the loopback interface, and the API server listens there, so that pods reach it
	// without a kube-proxy.
	serviceAddress = "10.96.0.1"
	serviceRange   = "10.96.0.0/16"
	podRange       = "10.98.0.0/24"
)

// PatternLock is locked (flock(2)) by whoever changes core_pattern or runs a node: both are one per kernel.
const PatternLock = "/tmp/core_pattern.lock"

// role is the variable of the environment that tells the processes of Isolated from one another.
const role = "COREDUMP_ISOLATED"

// Isolated runs a test program's main function in a network namespace and a cgroup of its own, and afterwards puts everything on this machine back that a node
// changes outside of dir: processes, mounts, cgroups, sysctls (core_pattern among them), directories. This process stays outside and starts itself twice:
//
//	inside    has the namespace and runs main. When this process dies, so does it.
//	cleaner   waits for the end of both, and cleans up. It holds the lock, so nobody else begins before that.
//
// If even the cleaner is killed, the next run cleans up first, by the state that this one has written down. dir is removed, except for
// logs, which are in dir + ".logs". The result is what main gave; the error is ErrInUse where another node runs on this machine, and main did not.
func Isolated(dir string, main func() int) (code int, err error) {
	switch os.Getenv(role) {
	case "inside":
		if err := errors.Join(network(), allowCores()); err != nil {
			return 1, fmt.Errorf("isolated: %w", err)
		}
		return main(), nil
	case "cleaner":
		// Ctrl-C on a terminal does not reach it, and nothing it prints may stop it.
		signal.Ignore(syscall.SIGPIPE)
		_, _ = io.Copy(io.Discard, os.Stdin)
		if err := cleanUp(dir); err != nil {
			return 1, fmt.Errorf("clean up after the tests: %w", err)
		}
		return 0, nil
	}
	if code, err = outside(dir); err != nil {
		return 1, fmt.Errorf("isolated: %w", err)
	}
	return code, nil
}

// Unfit says why this machine cannot run a node, nil where it can.
func Unfit() error {
	if os.Geteuid() != 0 {
		return errors.New("not root")
	}
	for _, program := range []string{"ip", "mount", "openssl"} {
		if _, err := exec.LookPath(program); err != nil {
			return err
		}
	}
	if err := unix.Access("/proc/sys/kernel/core_pattern", unix.W_OK); err != nil {
		return fmt.Errorf("core_pattern cannot be written: %w", err)
	}
	if _, err := unified(); err != nil {
		return err
	}
	cmd := exec.Command("true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("no network namespace: %w", err)
	}
	return nil
}

func outside(dir string) (code int, err error) {
	lock, err := os.OpenFile(PatternLock, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		fmt.Fprintln(os.Stderr, "waiting for "+PatternLock)
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
			return 0, fmt.Errorf("lock %s: %w", PatternLock, err)
		}
	}
	if err := cleanUp(dir); err != nil { // what an earlier run left
		return 0, err
	}
	if err := prepare(dir); err != nil {
		return 0, err
	}
	group, err := makeCgroup()
	if err != nil {
		return 0, errors.Join(err, cleanUp(dir))
	}
	defer group.Close()

	cleaner := again("cleaner", &syscall.SysProcAttr{Setsid: true})
	cleaner.ExtraFiles = []*os.File{lock}
	end, err := cleaner.StdinPipe()
	if err != nil {
		return 0, errors.Join(err, cleanUp(dir))
	}
	if err := cleaner.Start(); err != nil {
		return 0, errors.Join(err, cleanUp(dir))
	}
	defer func() {
		end.Close()
		if e := cleaner.Wait(); e != nil {
			err = errors.Join(err, fmt.Errorf("cleaner: %w", e))
		}
	}()

	runtime.LockOSThread() // Pdeathsig is sent when the thread ends that forked (prctl(2))
	defer runtime.UnlockOSThread()
	inside := again("inside", &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET, UseCgroupFD: true, CgroupFD: int(group.Fd()), Pdeathsig: syscall.SIGKILL,
	})
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	if err := inside.Start(); err != nil {
		return 0, err
	}
	go func() {
		for s := range signals {
			_ = inside.Process.Signal(s)
		}
	}()
	err = inside.Wait()
	signal.Stop(signals)
	close(signals)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if code := exit.ExitCode(); code > 0 {
			return code, nil
		}
	}
	return 0, err
}

// again is this program with another role.
func again(as string, attributes *syscall.SysProcAttr) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), role+"="+as)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = attributes
	return cmd
}

// network gives the loopback interface of the new namespace its addresses.
func network() error {
	for _, args := range []string{"link set lo up", "addr add " + NodeAddress + "/32 dev lo", "addr add " + serviceAddress + "/32 dev lo"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	return nil
}

// allowCores lifts the limit on the size of cores, which containers inherit from their runtime, as far as it goes.
func allowCores() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return unix.Setrlimit(unix.RLIMIT_CORE, &limit)
}

// cgroupName is the cgroup of all processes of a run that no pod contains.
const cgroupName = "coredump-test"

// unified is where cgroup v2 is mounted: at the top, or below the hierarchies of v1.
func unified() (string, error) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("cgroup v2 is not mounted at /sys/fs/cgroup or /sys/fs/cgroup/unified")
}

func makeCgroup() (*os.File, error) { return Cgroup(cgroupName) }

// Cgroup makes a cgroup of version 2, below those of the names before it, to start processes in. Isolated removes it where its first name is one of its own or
// of a kubelet; who is earlier does so before.
func Cgroup(names ...string) (*os.File, error) {
	root, err := unified()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(append([]string{root}, names...)...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.Open(dir)
}
