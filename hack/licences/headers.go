// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"strings"
)

// checkHeaders gives the Go files that do not begin with the header. A build constraint may stand before it: generators put it there.
func checkHeaders(tree fs.FS, header []byte) (missing []string, err error) {
	err = fs.WalkDir(tree, ".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != "." && strings.ContainsAny(d.Name()[:1], "._"):
			return fs.SkipDir // .git, _output
		case d.IsDir() || path.Ext(file) != ".go":
			return nil
		}
		text, err := fs.ReadFile(tree, file)
		if err != nil {
			return err
		}
		if !hasHeader(text, header) {
			missing = append(missing, file)
		}
		return nil
	})
	return missing, err
}

func hasHeader(text, header []byte) bool {
	for bytes.HasPrefix(text, []byte("//go:build ")) || bytes.HasPrefix(text, []byte("// +build ")) {
		_, text, _ = bytes.Cut(text, []byte("\n"))
		text = bytes.TrimLeft(text, "\n")
	}
	return bytes.HasPrefix(text, bytes.TrimSpace(header))
}

// addHeader puts the header and an empty line at the beginning of the file.
func addHeader(file string, header []byte) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(append(bytes.TrimSpace(header), "\n\n"...), text...), 0o644)
}
