// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"

	"example.io/coredump/pkg/storage"
)

// An upload is the file <uploadsDir>/<key>/<id>. Its name alone says what it is for, so nothing else needs to be
// written, and renamed it is the object.

// create makes the file of a new upload.
func (b *Bucket) create(key string) (f *os.File, name string, err error) {
	dir := uploadsDir + "/" + key
	name = dir + "/" + rand.Text()
	err = b.inDir(dir, func() error {
		f, err = b.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	return f, name, err
}

// Uploads implements storage.Bucket. Initiated is when the file was last written to.
func (b *Bucket) Uploads(ctx context.Context) iter.Seq2[storage.Upload, error] {
	return func(yield func(storage.Upload, error) bool) {
		const dir = uploadsDir + "/"
		w := walk{b: b, ctx: ctx, prefix: dir, yield: func(name string, info fs.FileInfo, err error) bool {
			if err != nil {
				yield(storage.Upload{}, fail("list uploads", "", err))
				return false
			}
			key, id := path.Split(strings.TrimPrefix(name, dir))
			key = strings.TrimSuffix(key, "/")
			if checkKey(key) != nil {
				return true
			}
			return yield(storage.Upload{Key: key, ID: id, Initiated: info.ModTime()}, nil)
		}}
		w.dir(dir)
	}
}

// AbortUpload implements storage.Bucket.
func (b *Bucket) AbortUpload(ctx context.Context, u storage.Upload) error {
	return fail("abort upload", u.Key, b.abort(ctx, u))
}

func (b *Bucket) abort(ctx context.Context, u storage.Upload) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := checkKey(u.Key); err != nil {
		return err
	}
	name := uploadsDir + "/" + u.Key + "/" + u.ID
	if storage.CheckKey(u.ID) != nil || strings.Contains(u.ID, "/") {
		return fmt.Errorf("%w id %.80q of an upload", storage.ErrInvalid, u.ID)
	}
	info, err := b.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil
	}
	if err == nil {
		err = b.root.Remove(name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b.prune(path.Dir(name), uploadsDir)
	return nil
}
