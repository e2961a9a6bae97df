// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"errors"
	"fmt"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pidfdInfo is struct pidfd_info of include/uapi/linux/pidfd.h; kernels fill what they know of it.
type pidfdInfo struct {
	Mask, Cgroupid                                                    uint64
	Pid, Tgid, Ppid, Ruid, Rgid, Euid, Egid, Suid, Sgid, Fsuid, Fsgid uint32
	ExitCode                                                          int32
	CoredumpMask, CoredumpSignal, CoredumpCode, _                     uint32
	Supported                                                         uint64
}

// Bits of Mask and CoredumpMask.
const (
	infoCreds        = 1 << 1
	infoCoredump     = 1 << 4
	infoSignal       = 1 << 6
	coredumpDumped   = 1 << 0
	coredumpRootOnly = 1 << 3
)

// getInfo asks for what the kernel knows of a process, also when that is gone.
func getInfo(pidfd int) (pidfdInfo, error) {
	info := pidfdInfo{Mask: infoCreds | infoCoredump | infoSignal}
	const ioctl = uintptr(3)<<30 | unsafe.Sizeof(info)<<16 | 0xFF<<8 | 11 // PIDFD_GET_INFO
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(pidfd), ioctl, uintptr(unsafe.Pointer(&info))); e != 0 {
		if e == unix.EREMOTE {
			return info, fmt.Errorf("the process is not in this PID namespace (hostPID: true is needed): %w", e)
		}
		return info, e
	}
	return info, nil
}

// errForged is wrapped where a connection does not come from the kernel.
var errForged = errors.New("not a connection that the kernel made for a crash")

// peer finds out who connected. The file is a pidfd and the caller's. It fails with errForged unless the peer is a process that dumps core: any other can only
// connect because the permissions of the socket's directory were changed. It is no proof (a process may crash after it connected, and leave the
// connection to another); those permissions are.
func peer(c *net.UnixConn) (pidfdInfo, *os.File, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return pidfdInfo{}, nil, fmt.Errorf("find out who connected: %w", err)
	}
	fd := -1
	if e := raw.Control(func(s uintptr) { fd, err = unix.GetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_PEERPIDFD) }); e != nil || err != nil {
		return pidfdInfo{}, nil, fmt.Errorf("%w: no pidfd of who connected: %w", errForged, errors.Join(e, err))
	}
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	info, err := getInfo(fd)
	switch {
	case err != nil:
		err = fmt.Errorf("%w: ask what the kernel knows of who connected: %w", errForged, err)
	case info.Mask&infoCoredump == 0 || info.CoredumpMask&coredumpDumped == 0:
		err = fmt.Errorf("%w: process %d is not dumping core (%#x)", errForged, info.Tgid, info.CoredumpMask)
	}
	if err != nil {
		pidfd.Close()
		return info, nil, err
	}
	return info, pidfd, nil
}
