// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"example.io/coredump/pkg/storage"
)

// Put implements storage.Bucket. What fits into one part is sent by one PutObject; the rest in parts, of which Concurrency are sent while the
// next is read.
func (b *Bucket) Put(ctx context.Context, key string, r io.Reader, opts storage.PutOptions) (storage.Object, error) {
	obj, err := b.put(ctx, key, r, opts)
	if opts.IfAbsent && status(err) == http.StatusPreconditionFailed {
		err = storage.ErrExists
	}
	return obj, b.fail(ctx, "put", key, err)
}

func (b *Bucket) put(ctx context.Context, key string, r io.Reader, opts storage.PutOptions) (storage.Object, error) {
	if err := storage.CheckKey(key); err != nil {
		return storage.Object{}, err
	}
	partSize, concurrency := b.opts.parts(opts.MaxSize)
	if partSize > MaxPartSize {
		return storage.Object{}, errTooLong
	}
	src := &source{ctx: ctx, r: r}
	first, more, err := b.readFirst(src, partSize, opts.MaxSize)
	if err != nil {
		return storage.Object{}, err
	}
	if !more {
		defer b.release(first)
		return b.putObject(ctx, key, first, opts)
	}
	return b.putParts(ctx, key, &parts{b: b, src: src, size: partSize, concurrency: concurrency}, first, opts)
}

// parts gives the size of the parts with which maxSize bytes fit into the number of parts that there may be, and how many may be
// sent at a time. Where parts grow, fewer are sent, so that memory stays (Concurrency + 1) × PartSize for as long as two fit into it.
func (o Options) parts(maxSize int64) (size int64, concurrency int) {
	const mib = 1 << 20
	size = max(o.PartSize, (maxSize/maxParts+mib)/mib*mib)
	budget := int64(o.Concurrency+1) * o.PartSize
	return size, min(o.Concurrency, max(1, int(budget/size)-1))
}

// readFirst reads what one request takes, and tells whether there may be more.
func (b *Bucket) readFirst(src io.Reader, partSize, maxSize int64) (data []byte, more bool, err error) {
	if 0 < maxSize && maxSize < partSize/2 { // a record need not take the memory of a part
		small := make([]byte, maxSize+1)
		n, err := io.ReadFull(src, small)
		if err != nil {
			more, err := end(err)
			return small[:n], more, err
		}
		src = io.MultiReader(bytes.NewReader(small), src) // more than promised
	}
	buf := b.buffer(partSize)
	n, err := io.ReadFull(src, buf)
	more, err = end(err)
	return buf[:n], more, err
}

// end tells the end of a reader, as io.ReadFull puts it, from a failure.
func end(err error) (more bool, _ error) {
	if err == io.EOF || err == io.ErrUnexpectedEOF { // by identity: what the reader itself returns is a sourceError
		return false, nil
	}
	return err == nil, err
}

func (b *Bucket) putObject(ctx context.Context, key string, data []byte, opts storage.PutOptions) (storage.Object, error) {
	sum := encode(b.checksum.sum(data))
	in := &s3.PutObjectInput{
		Bucket: &b.opts.Bucket, Key: b.full(key), Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))),
		ContentType: optional(opts.ContentType), IfNoneMatch: ifNoneMatch(opts.IfAbsent), ChecksumAlgorithm: b.checksum.sdk,
		ServerSideEncryption: types.ServerSideEncryption(b.opts.SSE), SSEKMSKeyId: optional(b.opts.KMSKeyID), StorageClass: types.StorageClass(b.opts.StorageClass),
	}
	*b.checksum.field(&in.ChecksumCRC64NVME, &in.ChecksumCRC32C, &in.ChecksumSHA256, &in.ContentMD5) = sum
	out, err := b.client.PutObject(ctx, in, unsignedOverTLS(b.opts.Endpoint))
	if err != nil {
		return storage.Object{}, err
	}
	etag := md5OfETag(out.ETag)
	if b.encryptedByKMS(out.ServerSideEncryption) {
		etag = nil
	}
	returned := *b.checksum.field(&out.ChecksumCRC64NVME, &out.ChecksumCRC32C, &out.ChecksumSHA256, &etag)
	if err := b.checksum.confirm(returned, *sum); err != nil {
		return storage.Object{}, err
	}
	return storage.Object{Key: key, Size: int64(len(data)), ETag: unquote(out.ETag), Checksum: b.checksum.text(returned, *sum)}, nil
}

// encryptedByKMS tells whether the ETag of an object is no MD5 for its encryption's sake.
func (b *Bucket) encryptedByKMS(sse types.ServerSideEncryption) bool {
	return sse == types.ServerSideEncryptionAwsKms || sse == types.ServerSideEncryptionAwsKmsDsse
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func ifNoneMatch(absent bool) *string {
	if !absent {
		return nil
	}
	return aws.String("*")
}

// buffer gives a buffer of size bytes. Those of the configured size are used again.
func (b *Bucket) buffer(size int64) []byte {
	if size == b.opts.PartSize {
		if buf, ok := b.buffers.Get().(*[]byte); ok {
			return *buf
		}
	}
	return make([]byte, size)
}

func (b *Bucket) release(buf []byte) {
	if buf = buf[:cap(buf)]; int64(len(buf)) == b.opts.PartSize {
		b.buffers.Put(&buf)
	}
}

// source is the reader that Put was given: it ends with the context, and its errors are told from the store's.
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

// sourceError is an error of the caller's reader.
type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }

var errTooLong = fmt.Errorf("%w length: it does not fit into %d parts; set a larger part-size, or say how long it may be", storage.ErrInvalid, maxParts)
