// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package podcopy

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Owner is whose rights a copy is written with, and whom it belongs to: the crashed process, in ids of the initial user namespace.
type Owner struct {
	UID, GID uint32
	// Groups are the supplementary groups ("Groups:" in /proc/<pid>/status), which fsGroup of a pod is among.
	Groups []uint32
}

// maxGroups is NGROUPS_MAX, see getgroups(2).
const maxGroups = 65536

// as runs f in a thread of its own that has the owner's rights on files and no capabilities, and waits for it. The thread ends with f, so that
// nothing else ever runs with them. f must not start goroutines that are to have the same rights.
func as(o Owner, f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Not unlocked: the thread ends with this goroutine.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end, and it is whom /proc/self is about. While it is locked, another thread is taken.
			defer runtime.UnlockOSThread()
			done <- as(o, f)
			return
		}
		err := become(o)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// become changes the calling thread, and it alone: these are the raw system calls, which in the kernel are about threads. See credentials(7),
// setfsuid(2).
func become(o Owner) error {
	if len(o.Groups) > maxGroups {
		return fmt.Errorf("take the rights of the process: %d groups", len(o.Groups))
	}
	// CAP_SETGID, CAP_SETUID.
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(o.Groups)), uintptr(unsafe.Pointer(unsafe.SliceData(o.Groups))), 0); e != 0 {
		return fmt.Errorf("take the groups of the process: %w", e)
	}
	// setfsuid and setfsgid report no errors: what they changed is looked at.
	unix.SetfsgidRetGid(int(o.GID))
	gid, _ := unix.SetfsgidRetGid(-1)
	unix.SetfsuidRetUid(int(o.UID))
	uid, _ := unix.SetfsuidRetUid(-1)
	if uint32(gid) != o.GID || uint32(uid) != o.UID {
		return errors.New("take the user and group of the process: not permitted")
	}
	// Root among the owners has the rights of a file's owner, and none beyond that.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	return nil
}
