// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"example.io/coredump/pkg/storage"
)

// grace is how long the parts that are under way when the caller's context ends may take to arrive.
const grace = 2 * time.Second

// parts is an upload in parts.
type parts struct {
	b           *Bucket
	src         *source
	size        int64
	concurrency int

	key  *string // in the store
	id   *string
	sent []*types.CompletedPart
	sums [][]byte  // of the parts
	all  hash.Hash // over all bytes, where the algorithm wants it
	n    int64     // bytes
}

// putParts stores first and the rest of the source, in parts. An upload that fails is removed, whatever became of ctx.
func (b *Bucket) putParts(ctx context.Context, key string, p *parts, first []byte, opts storage.PutOptions) (_ storage.Object, err error) {
	in := &s3.CreateMultipartUploadInput{
		Bucket: &b.opts.Bucket, Key: b.full(key), ContentType: optional(opts.ContentType), ChecksumAlgorithm: b.checksum.sdk,
		ServerSideEncryption: types.ServerSideEncryption(b.opts.SSE), SSEKMSKeyId: optional(b.opts.KMSKeyID), StorageClass: types.StorageClass(b.opts.StorageClass),
	}
	if b.checksum.whole {
		in.ChecksumType = types.ChecksumTypeFullObject
	}
	created, err := b.client.CreateMultipartUpload(ctx, in)
	if err != nil {
		return storage.Object{}, err
	}
	p.key, p.id, p.all = in.Key, created.UploadId, b.checksum.new()
	defer func() {
		if err != nil {
			err = p.remove(ctx, err)
		}
	}()
	if err := p.send(ctx, first); err != nil {
		return storage.Object{}, err
	}
	return p.complete(ctx, key, opts)
}

// send sends the parts, concurrency at a time, while the next is read. It returns when nothing is under way any more: a part that arrived
// after its upload was removed would stay in the store. So what is under way when something fails, or when ctx ends, may end by itself.
func (p *parts) send(ctx context.Context, data []byte) error {
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	p.src.ctx = reading
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, stop) })()
	var group errgroup.Group
	group.SetLimit(p.concurrency)

	var err error
	for more := true; err == nil && len(data) > 0; {
		if len(p.sent) == maxParts {
			err = errTooLong
			break
		}
		part, chunk := &types.CompletedPart{PartNumber: aws.Int32(int32(len(p.sent) + 1))}, data
		sum := make([]byte, p.all.Size())
		p.sent, p.sums, p.n = append(p.sent, part), append(p.sums, sum), p.n+int64(len(chunk))
		if p.b.checksum.whole {
			p.all.Write(chunk)
		}
		group.Go(func() error {
			defer p.b.release(chunk)
			copy(sum, p.b.checksum.sum(chunk))
			err := p.sendPart(sending, part, chunk, encode(sum))
			if err != nil {
				cancel()
			}
			return err
		})
		data = nil
		if more {
			buf := p.b.buffer(p.size)
			var n int
			n, err = io.ReadFull(p.src, buf)
			more, err = end(err)
			data = buf[:n]
		}
	}
	sendErr := group.Wait()
	if sendErr != nil && (err == nil || ctx.Err() == nil && errors.Is(err, context.Canceled)) {
		return sendErr // the reading, if that failed too, did so for this
	}
	return err
}

func (p *parts) sendPart(ctx context.Context, part *types.CompletedPart, data []byte, sum *string) error {
	c := p.b.checksum
	in := &s3.UploadPartInput{
		Bucket: &p.b.opts.Bucket, Key: p.key, UploadId: p.id, PartNumber: part.PartNumber,
		Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))), ChecksumAlgorithm: c.sdk,
	}
	*c.field(&in.ChecksumCRC64NVME, &in.ChecksumCRC32C, &in.ChecksumSHA256, &in.ContentMD5) = sum
	out, err := p.b.client.UploadPart(ctx, in, unsignedOverTLS(p.b.opts.Endpoint))
	if err != nil {
		return fmt.Errorf("part %d: %w", *part.PartNumber, err)
	}
	var none *string // the ETag of a part says nothing that its Content-MD5 has not ensured
	if err := c.confirm(*c.field(&out.ChecksumCRC64NVME, &out.ChecksumCRC32C, &out.ChecksumSHA256, &none), *sum); err != nil {
		return fmt.Errorf("part %d: %w", *part.PartNumber, err)
	}
	part.ETag = out.ETag
	*c.field(&part.ChecksumCRC64NVME, &part.ChecksumCRC32C, &part.ChecksumSHA256, &none) = sum
	return nil
}

func (p *parts) complete(ctx context.Context, key string, opts storage.PutOptions) (storage.Object, error) {
	in := &s3.CompleteMultipartUploadInput{
		Bucket: &p.b.opts.Bucket, Key: p.key, UploadId: p.id, IfNoneMatch: ifNoneMatch(opts.IfAbsent), MpuObjectSize: &p.n,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: make([]types.CompletedPart, len(p.sent))},
	}
	for i, part := range p.sent {
		in.MultipartUpload.Parts[i] = *part
	}
	c := p.b.checksum
	sum := p.sum()
	if c.whole {
		in.ChecksumType = types.ChecksumTypeFullObject
		var none *string
		*c.field(&in.ChecksumCRC64NVME, &in.ChecksumCRC32C, &in.ChecksumSHA256, &none) = &sum
	}
	out, err := p.b.client.CompleteMultipartUpload(ctx, in, p.b.patient)
	if err == nil && out.ETag == nil {
		err = fmt.Errorf("%w: the answer to the completion of the upload is empty", storage.ErrUnavailable)
	}
	if err != nil {
		return storage.Object{}, err
	}
	etag := md5OfETag(out.ETag)
	if p.b.encryptedByKMS(out.ServerSideEncryption) {
		etag = nil
	}
	returned := *c.field(&out.ChecksumCRC64NVME, &out.ChecksumCRC32C, &out.ChecksumSHA256, &etag)
	if err := c.confirm(returned, sum); err != nil {
		return storage.Object{}, err
	}
	return storage.Object{Key: key, Size: p.n, ETag: unquote(out.ETag), Checksum: c.text(returned, sum)}, nil
}

// sum is the checksum of the object.
func (p *parts) sum() string {
	if p.b.checksum.whole {
		return *encode(p.all.Sum(nil))
	}
	return *encode(p.b.checksum.sum(bytes.Join(p.sums, nil))) + "-" + strconv.Itoa(len(p.sums))
}

// remove removes the unfinished upload, even though ctx may have ended. It returns why that is done.
func (p *parts) remove(ctx context.Context, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.b.opts.Timeout)
	defer cancel()
	_, err := p.b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &p.b.opts.Bucket, Key: p.key, UploadId: p.id})
	if err != nil && code(err) != noSuchUpload {
		return fmt.Errorf("%w; and its unfinished upload is left: %v", why, explain(err))
	}
	return why
}
