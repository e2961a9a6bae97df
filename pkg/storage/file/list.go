// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"syscall"

	"example.io/coredump/pkg/storage"
)

// List implements storage.Bucket. It holds the names of one directory a level of the path at a time.
func (b *Bucket) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Object, error] {
	return func(yield func(storage.Object, error) bool) {
		dir := prefix[:strings.LastIndexByte(prefix, '/')+1]
		w := walk{b: b, ctx: ctx, prefix: prefix, after: after, yield: func(key string, info fs.FileInfo, err error) bool {
			if err != nil {
				yield(storage.Object{}, fail("list", prefix, err))
				return false
			}
			return yield(object(key, info), nil)
		}}
		w.dir(dir)
	}
}

// ListDirs implements storage.Bucket.
func (b *Bucket) ListDirs(ctx context.Context, prefix, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		names, err := b.names(ctx, prefix)
		if err != nil {
			yield("", fail("list", prefix, err))
			return
		}
		for _, name := range names {
			component, isDir := strings.CutSuffix(name, "/")
			if !isDir || name <= after+"/" {
				continue
			}
			any, err := b.any(ctx, prefix+name)
			if err != nil {
				yield("", fail("list", prefix, err))
				return
			}
			if any && !yield(component, nil) {
				return
			}
		}
	}
}

// any tells whether there is an object below dir: a directory alone is none.
func (b *Bucket) any(ctx context.Context, dir string) (any bool, err error) {
	w := walk{b: b, ctx: ctx, prefix: dir, yield: func(_ string, _ fs.FileInfo, e error) bool {
		any, err = e == nil, e
		return false
	}}
	w.dir(dir)
	return any, err
}

// walk goes through the regular files whose names begin with prefix and sort after the name after.
type walk struct {
	b             *Bucket
	ctx           context.Context
	prefix, after string
	// yield gets them in the order of their names, and at last an error, if any.
	yield func(name string, info fs.FileInfo, err error) bool
}

// dir walks below dir, which is empty or ends with "/", and tells whether to go on.
func (w *walk) dir(dir string) bool {
	names, err := w.b.names(w.ctx, dir)
	if err != nil {
		return w.yield("", nil, err)
	}
	for _, name := range names {
		name = dir + name
		if strings.HasSuffix(name, "/") {
			in := strings.HasPrefix(name, w.prefix) || strings.HasPrefix(w.prefix, name)
			passed := name <= w.after && !strings.HasPrefix(w.after, name)
			if in && !passed && !w.dir(name) {
				return false
			}
			continue
		}
		if !strings.HasPrefix(name, w.prefix) || name <= w.after {
			continue
		}
		if err := w.ctx.Err(); err != nil {
			return w.yield("", nil, err)
		}
		info, err := w.b.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue // gone since, or replaced by what is no object
		}
		if !w.yield(name, info, err) || err != nil {
			return false
		}
	}
	return true
}

// names gives the names in dir that can be parts of keys, those of directories with "/" at their end, in the order of the
// keys: with the "/", so that "a-b/" comes before "a/". dir is empty or ends with "/". One that does not exist has none.
func (b *Bucket) names(ctx context.Context, dir string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path := "."
	if dir != "" {
		path = strings.TrimSuffix(dir, "/")
		for component := range strings.SplitSeq(path, "/") {
			if storage.CheckKey(component) != nil {
				return nil, nil
			}
		}
	}
	d, err := b.root.OpenFile(path, os.O_RDONLY|nonBlock, 0)
	if dir != "" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if info, err := d.Stat(); err != nil || !info.IsDir() {
		return nil, err
	}
	entries, err := d.ReadDir(-1)
	if err != nil && !(dir != "" && errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		switch {
		case dir == "" && foreign[e.Name()], storage.CheckKey(e.Name()) != nil:
		case e.IsDir():
			names = append(names, e.Name()+"/")
		case e.Type().IsRegular():
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}
