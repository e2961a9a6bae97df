// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"

	"example.io/coredump/pkg/storage"
)

// fail gives err the operation, the key and its kind.
func fail(op, key string, err error) error {
	if err == nil {
		return nil
	}
	var source sourceError
	if errors.As(err, &source) {
		return &storage.Error{Op: op, Key: key, Err: source.error}
	}
	return &storage.Error{Op: op, Key: key, Kind: kind(err), Err: cause(err)}
}

// kind is the kind of what the file system answered, nil where err has one or is a context's.
func kind(err error) error {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case is(storage.ErrInvalid, storage.ErrChanged, storage.ErrCorrupt, storage.ErrUnavailable, context.Canceled, context.DeadlineExceeded):
		return nil
	case is(syscall.ENAMETOOLONG, syscall.EISDIR, errIsDirectory, errNotDirectory):
		return storage.ErrInvalid
	case is(fs.ErrNotExist, syscall.ENOTDIR):
		return storage.ErrNotFound
	case is(fs.ErrExist):
		return storage.ErrExists
	case is(fs.ErrPermission, syscall.EROFS):
		return storage.ErrDenied
	case is(syscall.ESTALE, syscall.EIO, syscall.ETIMEDOUT, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ENOTCONN, syscall.EREMOTEIO,
		syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.EINTR, syscall.EAGAIN, syscall.ENOMEM):
		return storage.ErrUnavailable
	}
	return nil
}

// cause strips the path and the name of the system call, as the key says enough.
func cause(err error) error {
	switch e := err.(type) {
	case *fs.PathError:
		return e.Err
	case *os.LinkError:
		return e.Err
	}
	return err
}

var (
	errIsDirectory  = errors.New("there are keys below it, which makes it a directory")
	errNotDirectory = errors.New("a part of its path is a key itself, and so no directory")
	errAborted      = errors.New("the upload was removed while it was written")
)

// sourceError is an error of the reader that Put was given: not the file system's, whatever it wraps.
type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }
