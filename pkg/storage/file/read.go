// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"example.io/coredump/pkg/storage"
)

// Open implements storage.Bucket. What was opened stays readable when it is deleted or replaced.
func (b *Bucket) Open(ctx context.Context, key, etag string, offset, length int64) (io.ReadCloser, error) {
	r, err := b.open(ctx, key, etag, offset, length)
	if err != nil {
		return nil, fail("open", key, err)
	}
	return r, nil
}

func (b *Bucket) open(ctx context.Context, key, want string, offset, length int64) (_ *reader, err error) {
	found, err := b.lstat(ctx, key)
	if err != nil {
		return nil, err
	}
	f, err := b.root.OpenFile(key, os.O_RDONLY|nonBlock, 0)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is no regular file", fs.ErrNotExist)
	}
	if want != "" && (want != etag(info) || !os.SameFile(found, info)) {
		return nil, storage.ErrChanged
	}
	rest := info.Size() - offset
	if offset < 0 || rest < 0 {
		return nil, fmt.Errorf("%w offset %d: the object has %d bytes", storage.ErrInvalid, offset, info.Size())
	}
	if length < 0 || length > rest {
		length = rest
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	return &reader{ctx: ctx, key: key, f: f, left: length}, nil
}

type reader struct {
	ctx  context.Context
	key  string
	f    *os.File
	left int64
}

func (r *reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if err := r.ctx.Err(); err != nil {
		return 0, fail("read", r.key, err)
	}
	n, err := r.f.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	switch {
	case errors.Is(err, io.EOF):
		return n, fail("read", r.key, fmt.Errorf("%w: it ends %d bytes too early", storage.ErrChanged, r.left))
	case err != nil:
		return n, fail("read", r.key, err)
	}
	return n, nil
}

func (r *reader) Close() error { return fail("close", r.key, r.f.Close()) }
