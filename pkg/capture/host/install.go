// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/capture/initns"
)

// ErrNoExec is wrapped where the host's directory is on a file system that nothing can be run from.
var ErrNoExec = errors.New("programs cannot be run from the directory on the host")

// Install puts the program and its configuration into the host's directory, and gives the core_pattern that runs it; Apply brings that into
// force. A program that is there, and may be running, is never written to: versions have names of their own, and appear whole.
// Repeating it with the same program and configuration changes nothing.
func (h *Host) Install(source string, config []byte) (pattern string, err error) {
	if err := mkdir(h.Dir); err != nil {
		return "", err
	}
	if err := h.executable(); err != nil {
		return "", err
	}
	f, err := os.Open(source)
	if err != nil {
		return "", fmt.Errorf("open the program to install: %w", err)
	}
	defer f.Close()
	sum, err := digest(f)
	if err != nil {
		return "", fmt.Errorf("read the program to install: %w", err)
	}
	name := "corepipe-" + sum[:12]
	if pattern, err = PipePattern(filepath.Join(h.HostDir, name)); err != nil {
		return "", err
	}
	return pattern, h.locked(func() error {
		if err := h.sweep(); err != nil {
			return err
		}
		// The configuration first: whoever runs the program finds it.
		if old, err := os.ReadFile(filepath.Join(h.Dir, capture.ConfigFile)); err != nil || string(old) != string(config) {
			if err := h.put(capture.ConfigFile, config); err != nil {
				return err
			}
		}
		if h.intact(name, sum) {
			return nil
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("read the program to install: %w", err)
		}
		return h.putFrom(name, f, 0o755)
	})
}

// Installed says whether the program that the pattern runs is in the host's directory.
func (h *Host) Installed(pattern string) bool {
	path, _, _ := strings.Cut(strings.TrimPrefix(pattern, "|"), " ")
	st, err := os.Lstat(filepath.Join(h.Dir, filepath.Base(path)))
	return err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o100 != 0
}

// Prune removes the versions of the program that neither of the patterns runs. The caller names the one in force and the one that was before it: the
// kernel may be about to run that. Removing what is running does no harm, its file stays until it ends.
func (h *Host) Prune(patterns ...string) error {
	keep := map[string]bool{}
	for _, p := range patterns {
		path, _, _ := strings.Cut(strings.TrimPrefix(p, "|"), " ")
		keep[filepath.Base(path)] = true
	}
	return h.locked(func() error {
		// Whatever was said: not the one in force.
		now, err := h.read(CorePattern)
		if err != nil {
			return err
		}
		path, _, _ := strings.Cut(strings.TrimPrefix(now, "|"), " ")
		keep[filepath.Base(path)] = true
		programs, _, err := h.names()
		if err != nil {
			return err
		}
		for _, name := range programs {
			if !keep[name] {
				if err := h.remove(name); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Uninstall gives the host back as it was: its settings, and the directory without anything of ours, which is removed where nothing else is in it.
// It may be repeated, also after it was killed; on a host where nothing is installed it does nothing.
func (h *Host) Uninstall() (Report, error) {
	report, err := h.Restore()
	if err != nil {
		return report, err
	}
	if _, err := os.Stat(h.Dir); errors.Is(err, fs.ErrNotExist) {
		return report, nil
	}
	err = h.locked(func() error {
		if now, err := h.read(CorePattern); err != nil || whose(now, filepath.Clean(h.HostDir), h.Socket) == ours {
			return errors.Join(err, fmt.Errorf("core_pattern is %q again: somebody installs while this uninstalls", now))
		}
		programs, _, err := h.names()
		if err != nil {
			return err
		}
		for _, name := range append(programs, capture.ConfigFile, capture.ComplainedFile) {
			if err := h.remove(name); err != nil {
				return err
			}
		}
		return h.sweep()
	})
	if err != nil {
		return report, err
	}
	return report, h.rmdir()
}

// rmdir removes the directory if it is empty.
func (h *Host) rmdir() error {
	err := unix.Rmdir(h.Dir)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EROFS) {
		// It is a mount point here (EROFS: in a read-only root file system), and an ordinary directory for the host. Who may not enter the host's mount
		// namespace leaves it, empty.
		_ = initns.Do(h.Namespaces, func() error { return unix.Rmdir(h.HostDir) })
		return nil
	}
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove the directory on the host: %w", err)
	}
	return nil
}

// sweep removes what those who were killed left unfinished. Under the lock only.
func (h *Host) sweep() error {
	_, left, err := h.names()
	for _, name := range left {
		err = errors.Join(err, h.remove(name))
	}
	return err
}

// intact says whether the installed program is the one that its name says.
func (h *Host) intact(name, sum string) bool {
	f, err := os.OpenFile(filepath.Join(h.Dir, name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Mode().Perm() != 0o755 {
		return false
	}
	got, err := digest(f)
	return err == nil && got == sum
}

func digest(r io.Reader) (string, error) {
	hash := sha256.New()
	_, err := io.Copy(hash, r)
	return hex.EncodeToString(hash.Sum(nil)), err
}

// executable tells a file system that is mounted noexec, as some hosts have them everywhere but in one place.
func (h *Host) executable() error {
	look := func(dir string) error {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			return fmt.Errorf("look at the file system of the directory on the host: %w", err)
		}
		if st.Flags&unix.ST_NOEXEC != 0 {
			return fmt.Errorf("%w: %s is on a file system mounted noexec; use a directory that is not (Container-Optimized OS: "+
				"below /home/kubernetes/bin), or the mode socket, which needs no program", ErrNoExec, h.HostDir)
		}
		return nil
	}
	if err := look(h.Dir); err != nil {
		return err
	}
	// A bind mount has flags of its own: what counts is how the host sees it, where we may look.
	err := initns.Do(h.Namespaces, func() error { return look(h.HostDir) })
	if errors.Is(err, ErrNoExec) {
		return err
	}
	return nil
}
