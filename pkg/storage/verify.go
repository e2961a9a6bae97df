// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// exactly passes a body on and fails in place of io.EOF where it has another number of bytes than its record says.
type exactly struct {
	io.ReadCloser
	key  string
	left int64
	err  error
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	n, err := e.ReadCloser.Read(p)
	e.left -= int64(n)
	switch {
	case e.left < 0:
		n, err = 0, corrupt(e.key, "it has more bytes than its record says")
	case err == io.EOF && e.left > 0:
		err = corrupt(e.key, "it has %d bytes fewer than its record says", e.left)
	}
	e.err = err
	return n, err
}

// verifier passes a core on and compares it with its record as it goes by.
type verifier struct {
	core io.ReadCloser
	body io.Closer
	key  string
	rec  *v1alpha1.CoreDump
	sum  hash.Hash
	n    int64
	err  error
}

func newVerifier(core io.ReadCloser, body io.Closer, key string, rec *v1alpha1.CoreDump) *verifier {
	return &verifier{core: core, body: body, key: key, rec: rec, sum: sha256.New()}
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.core.Read(p)
	v.n += int64(n)
	v.sum.Write(p[:n])
	switch size := v.rec.Status.Size; {
	case v.n > size:
		n, err = 0, corrupt(v.key, "the core has more than the %d bytes of its record", size)
	case err == io.EOF && v.n < size:
		err = corrupt(v.key, "the core has %d bytes, its record says %d", v.n, size)
	case err == io.EOF && hex.EncodeToString(v.sum.Sum(nil)) != v.rec.Status.SHA256:
		err = corrupt(v.key, "the core has another SHA-256 than its record says")
	case err != nil && err != io.EOF:
		err = named("read", v.key, err)
	}
	v.err = err
	return n, err
}

func (v *verifier) Close() error {
	_ = v.core.Close()
	return v.body.Close()
}

func corrupt(key, format string, args ...any) error {
	return &Error{Op: "read", Key: key, Kind: ErrCorrupt, Err: fmt.Errorf(format, args...)}
}

// named gives err the operation and the key unless it has them.
func named(op, key string, err error) error {
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	return &Error{Op: op, Key: key, Err: err}
}
