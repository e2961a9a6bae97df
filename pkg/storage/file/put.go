// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"syscall"

	"github.com/minio/crc64nvme"

	"example.io/coredump/pkg/storage"
)

// tries bounds how often a directory is made again that others removed as empty.
const tries = 100

// buffers are what Put copies with: its only memory that is not constant.
var buffers = sync.Pool{New: func() any { return new([1 << 20]byte) }}

// Put implements storage.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, r io.Reader, opts storage.PutOptions) (storage.Object, error) {
	obj, err := b.put(ctx, key, r, opts)
	return obj, fail("put", key, err)
}

func (b *Bucket) put(ctx context.Context, key string, r io.Reader, opts storage.PutOptions) (storage.Object, error) {
	if err := checkKey(key); err != nil {
		return storage.Object{}, err
	}
	f, tmp, err := b.create(key)
	if err != nil {
		return storage.Object{}, err
	}
	defer func() {
		f.Close()
		_ = b.root.Remove(tmp) // not there any more where all went well
		b.prune(path.Dir(tmp), uploadsDir)
	}()
	sum, err := b.fill(ctx, f, r)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return storage.Object{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return storage.Object{}, err
	}
	if err := b.publish(tmp, key, info, opts.IfAbsent); err != nil {
		return storage.Object{}, err
	}
	obj := object(key, info)
	obj.Checksum = sum
	return obj, nil
}

// fill writes all of r to f and onto the disk. The checksum is that of the bytes read back, or empty.
func (b *Bucket) fill(ctx context.Context, f *os.File, r io.Reader) (checksum string, err error) {
	buf := buffers.Get().(*[1 << 20]byte)
	defer buffers.Put(buf)

	written := crc64nvme.New()
	if _, err := io.CopyBuffer(io.MultiWriter(onlyWriter{f}, written), &source{ctx, r}, buf[:]); err != nil {
		return "", err
	}
	if err := f.Chmod(b.fileMode); err != nil { // the umask may have taken the group's access
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	if !b.opts.Verify {
		return "", nil
	}
	dropPages(f)
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	stored := crc64nvme.New()
	if _, err := io.CopyBuffer(stored, &fileReader{ctx, f}, buf[:]); err != nil {
		return "", err
	}
	if stored.Sum64() != written.Sum64() {
		return "", fmt.Errorf("%w: CRC64NVME %s was written and %s read back", storage.ErrCorrupt, base64Sum(written), base64Sum(stored))
	}
	return "crc64nvme:" + base64Sum(stored), nil
}

func base64Sum(h hash.Hash) string { return base64.StdEncoding.EncodeToString(h.Sum(nil)) }

// publish gives the complete file its name and puts the name on the disk.
func (b *Bucket) publish(tmp, key string, info fs.FileInfo, ifAbsent bool) error {
	dir := path.Dir(key)
	err := b.inDir(dir, func() error {
		if !ifAbsent {
			return b.root.Rename(tmp, key)
		}
		err := b.root.Link(tmp, key)
		// NFS sends a request again whose answer was lost, so a link that was made can look like one that there was
		// before (link(2), BUGS).
		if there, statErr := b.root.Lstat(key); errors.Is(err, fs.ErrExist) && statErr == nil && os.SameFile(info, there) {
			return nil
		}
		if errors.Is(err, syscall.EPERM) || errors.Is(err, errors.ErrUnsupported) {
			return fmt.Errorf("%w: the file system must have hard links", cause(err))
		}
		return err
	})
	if there, statErr := b.root.Lstat(key); err != nil && statErr == nil && there.IsDir() {
		return errIsDirectory
	}
	if err != nil {
		return err
	}
	for { // the names of all directories above too: another process may have made them without being done yet
		if err := b.sync(dir); err != nil {
			return err
		}
		if dir == "." {
			return nil
		}
		dir = path.Dir(dir)
	}
}

// inDir makes dir where it is missing, and does what needs it, again where somebody removed dir as empty in between.
func (b *Bucket) inDir(dir string, do func() error) error {
	var err error
	for range tries {
		if err = b.mkdirs(dir); err == nil {
			err = do()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return errNotDirectory
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, errAborted)
	}
	return err
}

func (b *Bucket) mkdirs(dir string) error {
	if dir == "." {
		return nil
	}
	if info, err := b.root.Lstat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := b.mkdirs(path.Dir(dir)); err != nil {
		return err
	}
	err := b.root.Mkdir(dir, b.dirMode.Perm())
	if err == nil {
		return b.root.Chmod(dir, b.dirMode)
	}
	if info, statErr := b.root.Lstat(dir); statErr == nil && !info.IsDir() {
		return errNotDirectory
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func (b *Bucket) sync(dir string) error {
	d, err := b.root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// source is the reader of Put: it ends with the context, and its errors are told from the file system's.
type source struct {
	ctx context.Context
	r   io.Reader
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		err = sourceError{err}
	}
	return n, err
}

// fileReader reads a file for as long as the context allows.
type fileReader struct {
	ctx context.Context
	f   *os.File
}

func (r *fileReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.f.Read(p)
}

// onlyWriter hides ReadFrom, which would take the buffer's place.
type onlyWriter struct{ io.Writer }
