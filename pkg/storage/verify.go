// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"strings"

	"github.com/minio/crc64nvme"
)

// summed compares the checksum of a body of the size, where it is one of all bytes, before it gives the last of them: where they are not right,
// nobody has a body that looks complete.
func summed(r io.ReadCloser, key, checksum string, size int64) io.ReadCloser {
	algorithm, want, _ := strings.Cut(checksum, ":")
	var sum hash.Hash
	switch {
	case strings.Contains(want, "-"): // that of the checksums of the parts
		return r
	case algorithm == "crc64nvme":
		sum = crc64nvme.New()
	case algorithm == "crc32c":
		sum = crc32.New(crc32.MakeTable(crc32.Castagnoli))
	case algorithm == "sha256":
		sum = sha256.New()
	default:
		return r
	}
	return &summing{ReadCloser: r, key: key, algorithm: algorithm, want: want, sum: sum, left: size}
}

type summing struct {
	io.ReadCloser
	key, algorithm, want string
	sum                  hash.Hash
	left                 int64
	err                  error
}

func (s *summing) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.ReadCloser.Read(p)
	s.sum.Write(p[:n])
	s.left -= int64(n)
	if s.left == 0 && (err == nil || err == io.EOF) && base64.StdEncoding.EncodeToString(s.sum.Sum(nil)) != s.want {
		n, err = 0, corrupt(s.key, "it has another %s than its record says", s.algorithm)
	}
	s.err = err
	return n, err
}

// verifier passes bytes on and compares them with what a record says of them as they go by. It gives the last of them only when all of them are
// right: where the length was promised, nothing else would tell.
type verifier struct {
	io.ReadCloser
	key    string
	size   int64
	sha256 string
	sum    hash.Hash
	n      int64
	err    error
}

func newVerifier(r io.ReadCloser, key string, size int64, sha256sum string) *verifier {
	return &verifier{ReadCloser: r, key: key, size: size, sha256: sha256sum, sum: sha256.New()}
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.ReadCloser.Read(p)
	v.n += int64(n)
	v.sum.Write(p[:n])
	if v.n == v.size && n > 0 && err == nil {
		err = v.end()
	}
	switch {
	case v.n > v.size:
		err = corrupt(v.key, "there is more than the %d bytes of its record", v.size)
	case err == io.EOF && v.n < v.size:
		err = corrupt(v.key, "there are %d bytes, its record says %d", v.n, v.size)
	case err == io.EOF && hex.EncodeToString(v.sum.Sum(nil)) != v.sha256:
		err = corrupt(v.key, "it has another SHA-256 than its record says")
	case err != nil && err != io.EOF:
		err = named("read", v.key, err)
	}
	v.err = err
	if err != nil && err != io.EOF && v.n >= v.size {
		n = 0
	}
	return n, err
}

// end reads on behind the last byte. It gives io.EOF where that is the end.
func (v *verifier) end() error {
	var more [1]byte
	n, err := io.ReadFull(v.ReadCloser, more[:])
	v.n += int64(n)
	return err
}

// unpacked is a core that is read from its body.
type unpacked struct {
	io.ReadCloser
	body io.Closer
}

func (u unpacked) Close() error {
	_ = u.ReadCloser.Close()
	return u.body.Close()
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
