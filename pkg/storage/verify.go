// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// verifier passes a core on and compares it with its record as it goes by.
type verifier struct {
	core io.ReadCloser
	body io.Closer
	rec  *v1alpha1.CoreDump
	sum  hash.Hash
	n    int64
}

func newVerifier(core io.ReadCloser, body io.Closer, rec *v1alpha1.CoreDump) *verifier {
	return &verifier{core: core, body: body, rec: rec, sum: sha256.New()}
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.core.Read(p)
	v.n += int64(n)
	v.sum.Write(p[:n])
	switch {
	case v.n > v.rec.Status.Size:
		return 0, v.corrupt("more than the %d bytes of its record", v.rec.Status.Size)
	case err == io.EOF && v.n < v.rec.Status.Size:
		return n, v.corrupt("%d bytes, its record says %d", v.n, v.rec.Status.Size)
	case err == io.EOF && hex.EncodeToString(v.sum.Sum(nil)) != v.rec.Status.SHA256:
		return n, v.corrupt("another SHA-256 than its record says")
	case err != nil && err != io.EOF:
		return n, &Error{Op: "read", Key: v.rec.Namespace + "/" + v.rec.Name, Err: err}
	}
	return n, err
}

func (v *verifier) corrupt(format string, args ...any) error {
	return &Error{Op: "read", Key: v.rec.Namespace + "/" + v.rec.Name, Kind: ErrCorrupt, Err: fmt.Errorf("the core has "+format, args...)}
}

func (v *verifier) Close() error {
	v.core.Close()
	return v.body.Close()
}
