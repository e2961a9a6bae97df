// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package podcontext

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/cgroup"
	"example.io/coredump/pkg/identity"
)

// KubeletLogs is where the kubelet has the logs of pods made, see podLogsDir in its configuration.
const KubeletLogs = "/var/log/pods"

// maxNames bounds how many names of a directory of logs are looked at.
const maxNames = 1024

// Logs reads the logs of containers as the kubelet lays them out, <namespace>_<pod>_<uid>/<container>/<attempt>.log, in the format of CRI.
// The runtime writes them, and the container chooses what is in them.
type Logs struct {
	// Root is the directory of the logs as it is to be opened here, "" for no logs at all; HostRoot is what the runtime calls it, "" for KubeletLogs.
	Root, HostRoot string
	// Lines bounds the lines that are taken, and Bytes both what is read of a file and what is given.
	Lines, Bytes int
}

// Tail gives the last lines of the container's log, the time and the stream before each. It gives nothing where there is no log. No link is followed, so
// there is none of runtimes whose logs are links to elsewhere (Docker).
func (l Logs) Tail(id cgroup.ID, w identity.Who) ([]byte, error) {
	if l.Root == "" || l.Lines <= 0 || l.Bytes <= 0 || w.Sandbox {
		return nil, nil
	}
	root, err := os.OpenFile(l.Root, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("logs of pods: %w", err)
	}
	defer root.Close()
	dir, name, err := l.find(root, id, w)
	if err != nil || name == "" {
		return nil, ifThere(err)
	}
	last, err := l.end(root, path.Join(dir, name))
	if err != nil {
		return nil, ifThere(err)
	}
	lines := decode(last)
	if len(lines) < l.Lines {
		// It may have just been rotated.
		if before := rotated(root, dir, name); before != "" {
			if older, err := l.end(root, path.Join(dir, before)); err == nil {
				lines = decode(append(older, last...))
			}
		}
	}
	return l.join(lines), nil
}

// ifThere is nil for what is not there, which is no failure.
func ifThere(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// join gives the last lines that fit.
func (l Logs) join(lines [][]byte) []byte {
	size, first := 0, len(lines)
	for first > 0 && len(lines)-first < l.Lines && size+len(lines[first-1])+1 <= l.Bytes {
		first--
		size += len(lines[first]) + 1
	}
	if first == len(lines) && first > 0 {
		line := lines[first-1] // longer than all that may be given
		return append(bytes.Clone(line[len(line)-l.Bytes+1:]), '\n')
	}
	text := make([]byte, 0, size)
	for _, line := range lines[first:] {
		text = append(append(text, line...), '\n')
	}
	return text
}

// find gives directory and name of the log below the root: as the runtime says, or else the newest of the container.
func (l Logs) find(root *os.File, id cgroup.ID, w identity.Who) (dir, name string, err error) {
	host := l.HostRoot
	if host == "" {
		host = KubeletLogs
	}
	if rel, ok := strings.CutPrefix(w.LogPath, strings.TrimSuffix(host, "/")+"/"); ok {
		return path.Dir(rel), path.Base(rel), nil
	}
	if w.Container == "" || strings.Contains(w.Container, "/") {
		return "", "", nil
	}
	dir = w.Namespace + "_" + w.Pod + "_" + id.PodUID + "/" + w.Container
	newest := -1
	for _, n := range names(root, dir) {
		if number, ok := strings.CutSuffix(n, ".log"); ok {
			if i, err := strconv.Atoi(number); err == nil && i > newest {
				newest, name = i, n
			}
		}
	}
	return dir, name, nil
}

// rotated gives the newest of the older parts of a log that is not compressed, <name>.<yyyymmdd-hhmmss>, or "".
func rotated(root *os.File, dir, name string) string {
	newest := ""
	for _, n := range names(root, dir) {
		if time, ok := strings.CutPrefix(n, name+"."); ok && strings.Trim(time, "0123456789-") == "" && n > newest {
			newest = n
		}
	}
	return newest
}

// names gives what is in the directory; nothing where it cannot be read.
func names(root *os.File, dir string) []string {
	f, err := open(root, dir, unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	defer f.Close()
	list, _ := f.Readdirnames(maxNames)
	slices.Sort(list)
	return list
}

// open opens what is below the root without following links, and without waiting for anybody.
func open(root *os.File, name string, flags uint64) (*os.File, error) {
	for {
		fd, err := unix.Openat2(int(root.Fd()), name, &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY | flags,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
		})
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// end reads the whole lines at the end of a file.
func (l Logs) end(root *os.File, name string) ([]byte, error) {
	f, err := open(root, name, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	}
	from := max(0, info.Size()-int64(l.Bytes))
	data, err := io.ReadAll(io.NewSectionReader(f, from, int64(l.Bytes)))
	if err != nil {
		return nil, err
	}
	if from > 0 {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	return data, nil
}
