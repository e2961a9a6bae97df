// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package file is the driver for a directory of a mounted file system: NFS, CephFS, a local disk. An object is
// a file, its key is the path. Several processes, on several machines, may use the directory at a
// time: everything is visible at once or not at all, by rename(2) and link(2).
//
// That only one of several writers wins is decided by the file system's server. What others have written is seen at once on a local file
// system and on CephFS; an NFS client may see a directory as it was up to acdirmax (60 s) ago, see nfs(5).
//
// Nothing outside the directory is ever touched (os.Root), and only regular files are objects. Calls to a file system whose server is
// away last until it is back, or as long as its mount options say; only Ping gives up with its context.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"example.io/coredump/pkg/storage"
)

// Options of the driver.
type Options struct {
	// Verify makes Put read the file back from the file system after fsync(2), its pages dropped from
	// the page cache where the file system can, and compare checksums. Without it, what is confirmed is that
	// fsync and close succeeded and that the size is right.
	Verify bool
}

// uploadsDir holds what is being written. It is on the same file system as the objects, as rename needs.
const uploadsDir = ".coredump-uploads"

// foreign are directories at the root that are the file system's own.
var foreign = map[string]bool{uploadsDir: true, "lost+found": true, ".snapshot": true, ".snap": true}

// Bucket is a directory. Safe for concurrent use.
type Bucket struct {
	root *os.Root
	opts Options
	// dirMode and fileMode are given to what is created, whatever the umask: the access of owner and group
	// to the root directory. Others get none, for a dump holds every secret of a process.
	dirMode, fileMode fs.FileMode
	// pinging holds a token while a Ping waits for the file system, so that waiting ones do not pile up.
	pinging chan struct{}
}

var _ storage.Bucket = &Bucket{}

// Open opens the directory, which must exist: a missing one is more likely a file system that is not mounted. It stays open,
// so a file system that is mounted over it later is not seen.
func Open(dir string, opts Options) (*Bucket, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, &storage.Error{Op: "open directory", Key: dir, Kind: kind(err), Err: cause(err)}
	}
	info, err := root.Stat(".")
	if err != nil {
		return nil, &storage.Error{Op: "open directory", Key: dir, Kind: kind(err), Err: cause(err)}
	}
	return &Bucket{
		root: root, opts: opts,
		dirMode:  info.Mode()&(fs.ModeSetgid|0o070) | 0o700,
		fileMode: info.Mode()&0o060 | 0o600,
		pinging:  make(chan struct{}, 1),
	}, nil
}

// checkKey refuses what is no key of this driver.
func checkKey(key string) error {
	if err := storage.CheckKey(key); err != nil {
		return err
	}
	if top, _, _ := strings.Cut(key, "/"); foreign[top] {
		return fmt.Errorf("%w key %.80q: %q is not for objects", storage.ErrInvalid, key, top)
	}
	return nil
}

// Stat implements storage.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (storage.Object, error) {
	info, err := b.lstat(ctx, key)
	if err != nil {
		return storage.Object{}, fail("stat", key, err)
	}
	return object(key, info), nil
}

// lstat describes the object under key.
func (b *Bucket) lstat(ctx context.Context, key string) (fs.FileInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	info, err := b.root.Lstat(key)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is no regular file", fs.ErrNotExist)
	}
	return info, nil
}

func object(key string, info fs.FileInfo) storage.Object {
	return storage.Object{Key: key, Size: info.Size(), ETag: etag(info), LastModified: info.ModTime()}
}

// Ping implements storage.Bucket.
func (b *Bucket) Ping(ctx context.Context) error {
	select {
	case b.pinging <- struct{}{}:
	case <-ctx.Done():
		return fail("ping", "", ctx.Err())
	}
	result := make(chan error, 1)
	go func() { // ends when the file system answers
		defer func() { <-b.pinging }()
		result <- b.readRoot()
	}()
	select {
	case err := <-result:
		return fail("ping", "", err)
	case <-ctx.Done():
		return fail("ping", "", ctx.Err())
	}
}

func (b *Bucket) readRoot() error {
	d, err := b.root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	if _, err = d.ReadDir(1); errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
