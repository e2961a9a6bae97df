// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// unfinished begins the names of files that are being written. Under the lock, one that is there was left by somebody who was killed.
const unfinished = ".unfinished-"

// mkdir makes the directory of the host. Its parent must be there, so that it is all that has to be removed.
func mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the directory on the host: %w", err)
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("look at the directory on the host: %w", err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !st.IsDir():
		return fmt.Errorf("%s on the host is not a directory", dir)
	case !ok || int(sys.Uid) != os.Geteuid() || st.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s on the host can be written by others than root (mode %v): root would run their programs", dir, st.Mode().Perm())
	}
	return nil
}

// locked calls f while nobody else does so for the same directory.
func (h *Host) locked(f func() error) error {
	dir, err := os.Open(h.Dir)
	if err != nil {
		return fmt.Errorf("open the directory on the host: %w", err)
	}
	defer dir.Close()
	for {
		if err = unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("lock the directory on the host: %w", err)
	}
	return f()
}

// put writes a file that is there whole or not at all, whatever happens.
func (h *Host) put(name string, content []byte) error {
	return h.putFrom(name, bytes.NewReader(content), 0o600)
}

func (h *Host) putFrom(name string, content io.Reader, mode fs.FileMode) (err error) {
	temporary := filepath.Join(h.Dir, unfinished+name)
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what was left unfinished: %w", err)
	}
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("create %s on the host: %w", name, err)
	}
	defer func() {
		if err != nil {
			os.Remove(temporary)
		}
	}()
	_, err = io.Copy(f, content)
	// The umask may have taken bits of the mode away.
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s on the host: %w", name, err)
	}
	if err = os.Rename(temporary, filepath.Join(h.Dir, name)); err != nil {
		return fmt.Errorf("put %s on the host in its place: %w", name, err)
	}
	return h.sync()
}

// remove removes a file of the directory for good; one that is not there is fine.
func (h *Host) remove(name string) error {
	err := os.Remove(filepath.Join(h.Dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s from the host: %w", name, err)
	}
	return h.sync()
}

func (h *Host) sync() error {
	dir, err := os.Open(h.Dir)
	if err == nil {
		err = errors.Join(dir.Sync(), dir.Close())
	}
	if err != nil {
		return fmt.Errorf("sync the directory on the host: %w", err)
	}
	return nil
}

// names are the files in the directory that are ours, by what they are.
func (h *Host) names() (programs, left []string, err error) {
	entries, err := os.ReadDir(h.Dir)
	if err != nil {
		return nil, nil, fmt.Errorf("list the directory on the host: %w", err)
	}
	for _, e := range entries {
		switch {
		case program.MatchString(e.Name()):
			programs = append(programs, e.Name())
		case strings.HasPrefix(e.Name(), unfinished):
			left = append(left, e.Name())
		}
	}
	return programs, left, nil
}
