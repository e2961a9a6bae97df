// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"syscall"
)

// Delete implements storage.Bucket. It removes the directories that become empty.
func (b *Bucket) Delete(ctx context.Context, keys ...string) (failed []string, first error) {
	failure := func(key string, err error) {
		failed = append(failed, key)
		if first == nil {
			first = fail("delete", key, err)
		}
	}
	removed := map[string][]string{} // by directory
	for _, key := range keys {
		if err := b.remove(ctx, key); err != nil {
			failure(key, err)
			continue
		}
		removed[path.Dir(key)] = append(removed[path.Dir(key)], key)
	}
	for dir, keys := range removed {
		// Onto the disk, so that what the caller deletes after this cannot be gone before it.
		if err := b.sync(b.prune(dir, ".")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			for _, key := range keys {
				failure(key, err)
			}
		}
	}
	return failed, first
}

func (b *Bucket) remove(ctx context.Context, key string) error {
	_, err := b.lstat(ctx, key)
	if err == nil {
		err = b.root.Remove(key)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	return err
}

// prune removes dir and the directories above it, below top, as far as they are empty. It returns the first that is not.
func (b *Bucket) prune(dir, top string) string {
	for dir != top && dir != "." {
		// Remove removes files too: there is none of this name unless keys are below keys, which Put refuses.
		if info, err := b.root.Lstat(dir); err == nil && !info.IsDir() {
			break
		}
		if err := b.root.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			break
		}
		dir = path.Dir(dir)
	}
	return dir
}
