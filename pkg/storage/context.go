// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/bundle"
)

// MaxContextSize bounds a context bundle, as it is stored, in bytes.
const MaxContextSize = 8 << 20

// describeContext gives what a record says of the bundle, nil where there is none. What could not be read later is refused now.
func describeContext(k Key, data []byte) (*v1alpha1.StoredContext, error) {
	if len(data) == 0 {
		return nil, nil
	}
	if len(data) > MaxContextSize {
		return nil, &Error{Op: "commit", Key: k.Context(), Kind: ErrInvalid, Err: fmt.Errorf("it has %d bytes: at most %d are allowed", len(data), MaxContextSize)}
	}
	entries, err := bundle.List(bytes.NewReader(data))
	if err != nil {
		return nil, &Error{Op: "commit", Key: k.Context(), Kind: ErrInvalid, Err: err}
	}
	sum := sha256.Sum256(data)
	about := &v1alpha1.StoredContext{StoredSize: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
	for _, e := range entries {
		about.Files = append(about.Files, v1alpha1.ContextFile{Name: e.Name, Size: e.Size})
	}
	return about, nil
}

func (d *Dumps) putContext(ctx context.Context, k Key, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	obj, err := d.bucket.Put(ctx, k.Context(), bytes.NewReader(data), PutOptions{MaxSize: int64(len(data)), ContentType: "application/zstd"})
	if err == nil && obj.Size != int64(len(data)) {
		err = &Error{Op: "confirm", Key: k.Context(), Kind: ErrCorrupt, Err: fmt.Errorf("the store has %d bytes, %d were sent", obj.Size, len(data))}
	}
	return err
}

// OpenContext opens the context bundle of the dump as it is stored, a tar.zst (package bundle). The reader fails with ErrCorrupt where
// the bytes are not those of the record (more, fewer, another SHA-256), at the latest in place of io.EOF: who reads to the end has what was
// committed. A record without a context is ErrNotFound. The caller closes the reader.
func (d *Dumps) OpenContext(ctx context.Context, rec *v1alpha1.CoreDump) (io.ReadCloser, error) {
	k, err := ParseName(rec.Namespace, rec.Name)
	if err != nil {
		return nil, err
	}
	about := rec.Status.Context
	if about == nil {
		return nil, &Error{Op: "open", Key: k.Context(), Kind: ErrNotFound}
	}
	r, err := d.bucket.Open(ctx, k.Context(), "", 0, -1)
	if err != nil {
		return nil, err
	}
	return newVerifier(r, k.Context(), about.StoredSize, about.SHA256), nil
}

// checkContext refuses what a record cannot say of a context.
func checkContext(about *v1alpha1.StoredContext) error {
	if about == nil {
		return nil
	}
	if about.StoredSize < 0 || about.StoredSize > MaxContextSize {
		return fmt.Errorf("record has a context of %d bytes: must be from 0 to %d", about.StoredSize, MaxContextSize)
	}
	if !validSHA256(about.SHA256) {
		return fmt.Errorf("record has a context with sha256 %.80q: must be 64 hex digits in lower case", about.SHA256)
	}
	if len(about.Files) > bundle.MaxFiles {
		return fmt.Errorf("record has a context of %d files: at most %d are allowed", len(about.Files), bundle.MaxFiles)
	}
	var entries []bundle.Entry
	for _, f := range about.Files {
		entries = append(entries, bundle.Entry{Name: f.Name, Size: f.Size})
	}
	return bundle.Check(entries)
}
