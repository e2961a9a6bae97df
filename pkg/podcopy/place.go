// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package podcopy

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// resolve is how the directory is looked up: "/" is the root of the container, and no link is followed. Other file systems may be entered,
// volumes are such. See openat2(2).
const resolve = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// open opens the directory and looks at where it is. It is called with the rights of the owner.
func (t *Target) open(root int) error {
	fd, err := openat2(root, t.path, unix.O_PATH|unix.O_DIRECTORY, 0, resolve)
	switch err {
	case nil:
	case unix.ELOOP:
		return refuse("a symbolic link is on the way: it is not followed")
	case unix.ENOTDIR:
		return refuse("something on the way is no directory")
	case unix.ENOENT:
		return refuse("the directory does not exist")
	case unix.ENOSYS:
		return refuse("this kernel has no openat2 (Linux 5.6)")
	default:
		return err
	}
	dir := os.NewFile(uintptr(fd), "target")
	var st unix.Statfs_t
	if err = fstatfs(fd, &st); err == nil {
		err = t.copier.allowed(&st)
	}
	if err != nil {
		return errors.Join(err, dir.Close())
	}
	t.dir.Store(dir)
	return nil
}

// kernelFS are the types of file systems in which files are something else; see statfs(2) and linux/magic.h.
var kernelFS = map[uint32]string{
	unix.PROC_SUPER_MAGIC: "proc", unix.SYSFS_MAGIC: "sysfs", unix.CGROUP_SUPER_MAGIC: "cgroup", unix.CGROUP2_SUPER_MAGIC: "cgroup2",
	unix.DEVPTS_SUPER_MAGIC: "devpts", unix.DEBUGFS_MAGIC: "debugfs", unix.TRACEFS_MAGIC: "tracefs", unix.SECURITYFS_MAGIC: "securityfs",
	unix.BPF_FS_MAGIC: "bpf", unix.PSTOREFS_MAGIC: "pstore", unix.EFIVARFS_MAGIC: "efivarfs", unix.NSFS_MAGIC: "nsfs",
	unix.SELINUX_MAGIC: "selinuxfs", unix.BINFMTFS_MAGIC: "binfmt_misc", unix.RDTGROUP_SUPER_MAGIC: "resctrl", unix.AUTOFS_SUPER_MAGIC: "autofs",
	0x62656570: "configfs", 0x19800202: "mqueue", 0x65735543: "fusectl",
}

// memoryFS are file systems in memory. What is written there is charged to the memory of the writer, which is this program; also, /dev
// of a container is one.
var memoryFS = map[uint32]string{unix.TMPFS_MAGIC: "tmpfs", unix.RAMFS_MAGIC: "ramfs", unix.HUGETLBFS_MAGIC: "hugetlbfs"}

func (c *Copier) allowed(st *unix.Statfs_t) error {
	magic := uint32(st.Type)
	if name := kernelFS[magic]; name != "" {
		return refuse("the directory is in a file system of the kernel (%s)", name)
	}
	if name := memoryFS[magic]; name != "" && !c.memory {
		return refuse("the directory is in memory (%s): must be on a disk or a network file system", name)
	}
	return nil
}

// room tells whether need more bytes fit.
func (c *Copier) room(st *unix.Statfs_t, need int64) error {
	unit := uint64(max(st.Frsize, 1))
	free := st.Bavail * unit
	keep := st.Blocks / 100 * unit * uint64(c.limits.FreePercent)
	// A size of 0 is what some network file systems say who do not know it.
	if st.Blocks > 0 && (free < keep || free-keep < uint64(need)) {
		return fmt.Errorf("%w: the copy needs %d bytes, %d are free, and %d%% must stay free", ErrNoSpace, need, free, c.limits.FreePercent)
	}
	return nil
}

func fstatfs(fd int, st *unix.Statfs_t) error {
	for {
		if err := unix.Fstatfs(fd, st); err != unix.EINTR {
			return err
		}
	}
}

func openat2(dir int, name string, flags, mode, resolve uint64) (int, error) {
	for {
		fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Mode: mode, Resolve: resolve})
		if err != unix.EINTR {
			return fd, err
		}
	}
}
