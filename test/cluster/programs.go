// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// searchPath is PATH in every image: / for those of static programs, the others for Programs.
const searchPath = "/:/usr/local/bin:/usr/bin:/bin"

// library is a line of ldd(1), with the path of a library or of the loader.
var library = regexp.MustCompile(`(?m)(?:^|=>)\s+(/\S+) \(0x`)

// Programs are the files of an image (Image.Files) in which these programs of this machine run: themselves, the loader and the libraries that they are linked
// with, at the paths that they have here. What a program reads beside them is not found.
func Programs(ctx context.Context, names ...string) (map[string]string, error) {
	files := map[string]string{}
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			return nil, err
		}
		include(files, path)
		out, err := exec.CommandContext(ctx, "ldd", path).CombinedOutput()
		if err != nil && !strings.Contains(string(out), "not a dynamic executable") {
			return nil, fmt.Errorf("ldd %s: %w: %s", path, err, out)
		}
		for _, l := range library.FindAllStringSubmatch(string(out), -1) {
			include(files, l[1])
		}
	}
	return files, nil
}

// Debugger are the files of an image that has gdb and what a debug pod of kubectl coredump needs beside it. Where gdb has Python it does not start without those
// modules that it loads at the start: it says itself which.
func Debugger(ctx context.Context) (map[string]string, error) {
	files, err := Programs(ctx, "gdb", "/bin/sh", "cat", "tr", "grep", "sha256sum", "sleep")
	if err != nil {
		return nil, err
	}
	// resource is there because it is in the directory of modules in C, without which Python complains.
	const loaded = `python import sys, resource; print("\n".join(m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)))`
	cmd := exec.CommandContext(ctx, "gdb", "-nx", "-batch", "-ex", loaded)
	cmd.Env = []string{"PATH=" + searchPath, "LC_ALL=C"} // as in the pod: other languages load other modules
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "Python scripting is not supported") {
		return nil, fmt.Errorf("gdb: %w: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); filepath.IsAbs(line) {
			include(files, line)
		}
	}
	return files, nil
}

func include(files map[string]string, path string) { files[strings.TrimPrefix(path, "/")] = path }
