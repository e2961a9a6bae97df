// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package dumpdir

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
)

const (
	// walkStep is how many names are read at a time: a directory may hold millions.
	walkStep = 256
	// maxDepth bounds how deep directories are looked into. The layout has three levels.
	maxDepth = 16
)

// visitor is told what a walk meets.
type visitor interface {
	// directory is called before the names in the directory are read.
	directory(name string)
	// entry is called for everything that is no directory.
	entry(name string)
	// unreadable is called for a directory that cannot be read.
	unreadable(name string, err error)
}

// walk goes through the directory name and everything below, except for what is set aside and the spool. It follows no link and leaves
// no file system. It ends early only with ctx.
func (r *Root) walk(ctx context.Context, name string, v visitor) error {
	if depth(name) > maxDepth {
		v.unreadable(name, errors.New("too deep: at most 16 levels of directories are looked into"))
		return nil
	}
	if reserved(name) {
		return nil
	}
	dir, err := r.openDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone meanwhile
	}
	if err != nil {
		v.unreadable(name, err)
		return nil
	}
	defer dir.Close()
	v.directory(name)
	for ctx.Err() == nil {
		entries, err := dir.ReadDir(walkStep)
		for _, e := range entries {
			child := path.Join(name, e.Name())
			if !e.IsDir() {
				v.entry(child)
			} else if err := r.walk(ctx, child, v); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			v.unreadable(name, err)
			return nil
		}
	}
	return ctx.Err()
}

// depth is the number of components.
func depth(name string) int {
	if name == "." {
		return 0
	}
	n := 1
	for i := range len(name) {
		if name[i] == '/' {
			n++
		}
	}
	return n
}
