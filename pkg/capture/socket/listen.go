// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listener is a coredump socket that is there for the kernel.
type Listener struct {
	*net.UnixListener
	path string
	self os.FileInfo
}

// Listen makes the socket at path, in a directory that it makes or takes away from everybody but root: who can connect can forge crashes
// once the second line of defence is passed. Another socket at that path is replaced without a moment at which there is none, so that a new
// version takes over from an old one; connections that the old one has stay its own.
//
// The process is made one that never dumps core itself: it would be asked about its own crash. See PR_SET_DUMPABLE in prctl(2).
func Listen(path string) (*Listener, error) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("make sure not to dump core: %w", err)
	}
	if err := private(filepath.Dir(path)); err != nil {
		return nil, err
	}
	temporary := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%d", os.Getpid()))
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove an old coredump socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for crashes: %w", err)
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(temporary, 0o600)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	var self os.FileInfo
	if err == nil {
		self, err = os.Lstat(path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("put the coredump socket in its place: %w", err), l.Close())
	}
	return &Listener{l, path, self}, nil
}

// Close ends the listening and removes the socket, unless it is another's by now.
func (l *Listener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.self) {
		if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("remove the coredump socket: %w", err), l.UnixListener.Close())
		}
	}
	return l.UnixListener.Close()
}

// private makes a directory that only we can enter.
func private(name string) error {
	if err := os.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the directory of the coredump socket: %w", err)
	}
	dir, err := os.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("open the directory of the coredump socket: %w", err)
	}
	defer dir.Close()
	st, err := dir.Stat()
	if err != nil {
		return fmt.Errorf("look at the directory of the coredump socket: %w", err)
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Geteuid() {
		return fmt.Errorf("the directory of the coredump socket, %s, is not ours", name)
	}
	if err := dir.Chmod(0o700); err != nil {
		return fmt.Errorf("close the directory of the coredump socket: %w", err)
	}
	return nil
}
