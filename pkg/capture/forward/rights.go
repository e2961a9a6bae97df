// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxStatus bounds what is read of /proc/pid/status: 65536 groups of 11 bytes, and the rest.
const maxStatus = 1 << 20

// rights are those that a process has in the file system, in the initial user namespace.
type rights struct {
	fsuid, fsgid int
	groups       []uint32
	capabilities uint64 // the effective ones
}

// readRights reads those of the process whose directory in /proc is given.
func readRights(proc int) (rights, error) {
	b, err := readAt(proc, "status", maxStatus)
	if err != nil {
		return rights{}, err
	}
	r, err := parseRights(b)
	if err != nil {
		return rights{}, err
	}
	var theirs, ours unix.Stat_t
	if err := errors.Join(unix.Fstatat(proc, "ns/user", &theirs, 0), unix.Stat("/proc/thread-self/ns/user", &ours)); err != nil {
		return rights{}, fmt.Errorf("compare user namespaces: %w", err)
	}
	if theirs.Dev != ours.Dev || theirs.Ino != ours.Ino {
		r.capabilities = 0 // they are good for nothing outside of its own user namespace
	}
	return r, nil
}

func readAt(dir int, name string, limit int64) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// parseRights reads /proc/pid/status, see proc_pid_status(5). The name in it is escaped by the kernel, so a line is what it seems.
func parseRights(status []byte) (rights, error) {
	field := func(key string) [][]byte {
		for line := range bytes.Lines(status) {
			if v, ok := bytes.CutPrefix(line, []byte(key+":")); ok {
				return bytes.Fields(v)
			}
		}
		return nil
	}
	var r rights
	uid, gid, capabilities := field("Uid"), field("Gid"), field("CapEff")
	if len(uid) != 4 || len(gid) != 4 || len(capabilities) != 1 {
		return r, errors.New("/proc/pid/status lacks Uid, Gid or CapEff")
	}
	u, err1 := strconv.ParseUint(string(uid[3]), 10, 32) // real, effective, saved, file system
	g, err2 := strconv.ParseUint(string(gid[3]), 10, 32)
	c, err3 := strconv.ParseUint(string(capabilities[0]), 16, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return r, err
	}
	r = rights{fsuid: int(u), fsgid: int(g), capabilities: c}
	for _, group := range field("Groups") {
		id, err := strconv.ParseUint(string(group), 10, 32)
		if err != nil {
			return r, err
		}
		r.groups = append(r.groups, uint32(id))
	}
	return r, nil
}

// take gives the calling thread, and no other, these rights in the file system. Raw system calls: those of package syscall change all threads.
func (r rights) take() error {
	var groups unsafe.Pointer
	if len(r.groups) > 0 {
		groups = unsafe.Pointer(&r.groups[0])
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(r.groups)), uintptr(groups), 0); e != 0 {
		return fmt.Errorf("take its groups (needs CAP_SETGID): %w", e)
	}
	// setfsuid(2) and setfsgid(2) tell no errors: they give the id before, so asking again tells.
	setID := func(call uintptr, id int, what string) error {
		_, _, _ = unix.RawSyscall(call, uintptr(id), 0, 0)
		if now, _, _ := unix.RawSyscall(call, ^uintptr(0), 0, 0); int(uint32(now)) != id {
			return fmt.Errorf("take its %s %d (needs CAP_SETUID and CAP_SETGID): it is %d", what, id, uint32(now))
		}
		return nil
	}
	if err := setID(unix.SYS_SETFSGID, r.fsgid, "fsgid"); err != nil {
		return err
	}
	if err := setID(unix.SYS_SETFSUID, r.fsuid, "fsuid"); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read the own capabilities: %w", err)
	}
	data[0].Effective = data[0].Permitted & uint32(r.capabilities)
	data[1].Effective = data[1].Permitted & uint32(r.capabilities>>32)
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("give up capabilities that it does not have: %w", err)
	}
	// A change of ids sets this to fs.suid_dumpable.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("stay closed to debuggers: %w", err)
	}
	return nil
}
