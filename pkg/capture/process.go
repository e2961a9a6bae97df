// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/spool"
)

// ErrGone is the kind of the errors for a process that is not, or may not be, the one that crashed: it was killed while it
// dumped, and its id may be another's already.
var ErrGone = errors.New("the crashed process is gone")

// Process is a process that is dumping core, held by descriptors, so that whatever is read of it is read of it and of no other, also where its id is
// used again: /proc/<pid> once it is open stays with its process (proc(5), and fs/proc/base.c: an inode refers to a struct pid), and
// the pidfd tells whether it was still alive after that.
type Process struct {
	pid    int
	pidfd  int // -1 on kernels older than 5.3
	proc   int
	root   int // O_PATH, -1 where it could not be opened
	sure   bool
	crash  time.Time
	before uint64 // start time when it was opened
}

// OpenProcess takes hold of the process with that id in the initial PID namespace, which procfs of this mount namespace must show. pidfd is the kernel's own
// descriptor of it (%F of core(5), or SO_PEERPIDFD), which the Process takes over; -1 where there is none (kernels older than 6.16 that
// do not have it as a fix): then start time and state stand in for it, with the time of the crash in whole seconds.
func OpenProcess(pid, pidfd int, crash time.Time) (*Process, error) {
	p := &Process{pid: pid, pidfd: pidfd, proc: -1, root: -1, sure: pidfd >= 0, crash: crash}
	if pid <= 0 {
		p.Close()
		return nil, fmt.Errorf("%w: process id %d", ErrGone, pid)
	}
	var err error
	p.proc, err = unix.Open("/proc/"+strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil && pidfd < 0 {
		if fd, e := unix.PidfdOpen(pid, 0); e == nil {
			p.pidfd = fd
		}
	}
	if err == nil {
		p.before, err = p.StartTime()
	}
	if err == nil {
		err = p.Verify()
	}
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("%w: %w", ErrGone, err)
	}
	p.root, err = unix.Openat(p.proc, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		p.root = -1
	}
	return p, nil
}

// Close gives up the descriptors, also the pidfd.
func (p *Process) Close() {
	for _, fd := range []int{p.pidfd, p.proc, p.root} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// PID is the id in the initial PID namespace. PIDFD and Root are descriptors, Root an O_PATH one of its root directory; both stay the
// Process's own, and are -1 where there is none.
func (p *Process) PID() int   { return p.pid }
func (p *Process) PIDFD() int { return p.pidfd }
func (p *Process) Root() int  { return p.root }

// Verify tells whether the process is still the one that crashed. After it has succeeded, all that was read before is true of it. Errors are of kind ErrGone.
func (p *Process) Verify() error {
	if p.pidfd >= 0 {
		if pid, err := pidOf(p.pidfd); err != nil || pid != p.pid {
			return fmt.Errorf("%w: its pidfd says %d: %w", ErrGone, pid, err)
		}
		// EPERM: it is there, and another user's (kill(2)); in mode socket this is a container without CAP_KILL.
		if err := unix.PidfdSendSignal(p.pidfd, 0, nil, 0); err != nil && err != unix.EPERM {
			return fmt.Errorf("%w: %w", ErrGone, err)
		}
	}
	if p.sure {
		return nil
	}
	return p.verifyByTime()
}

// verifyByTime is for kernels that give no pidfd. A process that got the id of the one that crashed was started after the crash; and it is not
// dumping core itself, unless it too crashed.
func (p *Process) verifyByTime() error {
	start, err := p.StartTime()
	if err != nil {
		return err
	}
	switch {
	case start != p.before:
		return fmt.Errorf("%w: its start time changed", ErrGone)
	case startedAt(start).After(p.crash.Add(time.Second)):
		return fmt.Errorf("%w: it was started after the crash", ErrGone)
	case !p.dumping():
		return fmt.Errorf("%w: the process with its id is not dumping core", ErrGone)
	}
	return nil
}

// pidOf reads the process id of a pidfd: -1 once it was reaped. See pidfd_open(2); the ioctl PIDFD_GET_INFO would need Linux 6.13.
func pidOf(pidfd int) (int, error) {
	b, err := readAt(unix.AT_FDCWD, "/proc/self/fdinfo/"+strconv.Itoa(pidfd), 4096)
	if err != nil {
		return -1, err
	}
	return strconv.Atoi(field(b, "Pid:"))
}

// dumping reads CoreDumping of /proc/pid/status, which is there since Linux 4.15.
func (p *Process) dumping() bool {
	b, err := p.Read("status", 16<<10)
	return err == nil && field(b, "CoreDumping:") == "1"
}

// field finds a line by its exact key. Names that the process chose are escaped in these files, so no line can be forged.
func field(b []byte, key string) string {
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(line, []byte(key)); ok {
			return string(bytes.TrimSpace(v))
		}
	}
	return ""
}

// StartTime is field 22 of /proc/pid/stat, in clock ticks since boot.
func (p *Process) StartTime() (uint64, error) {
	b, err := p.Read("stat", 4096)
	if err != nil {
		return 0, err
	}
	return startTime(b)
}

// startTime counts from the last parenthesis: the name in front of it is the process's own choice.
func startTime(stat []byte) (uint64, error) {
	const state, start = 3, 22 // numbers of the fields in proc_pid_stat(5)
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(f) <= start-state {
		return 0, fmt.Errorf("/proc/pid/stat has %d fields behind the name", len(f))
	}
	return strconv.ParseUint(string(f[start-state]), 10, 64)
}

// clockTick is USER_HZ, which is 100 on every architecture that Go runs on.
const clockTick = time.Second / 100

func startedAt(ticks uint64) time.Time {
	var boot unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(ticks)*clockTick - time.Duration(boot.Nano()))
}

// Cgroup is /proc/pid/cgroup, at most 8 KiB of it.
func (p *Process) Cgroup() (string, error) {
	b, err := p.Read("cgroup", 8<<10)
	return string(b), err
}

// Exe is what /proc/pid/exe links to, in the process's own mount namespace.
func (p *Process) Exe() (string, error) { return p.link("exe") }

func (p *Process) link(name string) (string, error) {
	var buf [4096]byte
	n, err := unix.Readlinkat(p.proc, name, buf[:])
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// NamespacePID is the process's id in its own PID namespace, the last number of NSpid in /proc/pid/status; 0 where it cannot be told.
func (p *Process) NamespacePID() int64 {
	b, err := p.Read("status", 16<<10)
	if err != nil {
		return 0
	}
	ids := strings.Fields(field(b, "NSpid:"))
	if len(ids) == 0 {
		return 0
	}
	id, _ := strconv.ParseInt(ids[len(ids)-1], 10, 64)
	return id
}

// Read reads at most limit bytes of a file in /proc/pid.
func (p *Process) Read(name string, limit int64) ([]byte, error) {
	return readAt(p.proc, name, limit)
}

func readAt(dir int, name string, limit int64) ([]byte, error) {
	f, err := openAt(dir, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

func openAt(dir int, name string) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Describe fills in what /proc says of the process: start time, executable, cgroup, and the ids that are not known yet. It
// fails with ErrGone where the process may be another one by now: then Verified must stay false. What could not be read is left empty.
func (p *Process) Describe(m *spool.Meta) error {
	m.StartTime, _ = p.StartTime()
	m.Exe, _ = p.Exe()
	cgroup, err := p.Cgroup()
	m.Cgroup = cgroup
	if m.PID == 0 {
		m.PID = p.NamespacePID()
	}
	if err := p.Verify(); err != nil {
		return err
	}
	if err != nil || m.StartTime == 0 {
		return fmt.Errorf("%w: its cgroup or start time cannot be read", ErrGone)
	}
	return nil
}
