// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"example.io/coredump/pkg/storage"
)

// Open implements storage.Bucket. A connection that breaks while the object is read is made again, at the place where it broke; of an
// object that is read in one go from its beginning to its end the store's checksum, if it has one of all bytes, is compared.
func (b *Bucket) Open(ctx context.Context, key, etag string, offset, length int64) (io.ReadCloser, error) {
	r, err := b.open(ctx, key, etag, offset, length)
	if err != nil {
		return nil, b.fail(ctx, "open", key, err)
	}
	return r, nil
}

func (b *Bucket) open(ctx context.Context, key, etag string, offset, length int64) (io.ReadCloser, error) {
	if err := storage.CheckKey(key); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, errOffset(offset)
	}
	r := &reader{b: b, ctx: ctx, key: key, etag: etag, next: offset, end: math.MaxInt64}
	if length >= 0 && length < math.MaxInt64-offset {
		r.end = offset + length
	}
	err := errEmptyRange
	if length != 0 {
		err = r.connect()
	}
	if err == errEmptyRange || status(err) == http.StatusRequestedRangeNotSatisfiable {
		return b.openEmpty(ctx, key, etag, offset)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// errEmptyRange stands for a range of no bytes, which HTTP cannot ask for.
var errEmptyRange = errors.New("empty range")

func errOffset(offset int64) error {
	return fmt.Errorf("%w offset %d: it is not within the object", storage.ErrInvalid, offset)
}

// openEmpty gives the empty range at offset, if the object goes that far.
func (b *Bucket) openEmpty(ctx context.Context, key, etag string, offset int64) (io.ReadCloser, error) {
	obj, err := b.stat(ctx, key, etag)
	switch {
	case err != nil:
		return nil, err
	case offset > obj.Size:
		return nil, errOffset(offset)
	}
	return io.NopCloser(strings.NewReader("")), nil
}

// reader reads the bytes from next to end.
type reader struct {
	b         *Bucket
	ctx       context.Context
	key, etag string
	next, end int64
	body      io.ReadCloser
	failures  int   // since the last byte
	err       error // io.EOF, or why it failed for good
}

// connect asks for what has not been read yet.
func (r *reader) connect() error {
	in := &s3.GetObjectInput{Bucket: &r.b.opts.Bucket, Key: r.b.full(r.key), IfMatch: ifMatch(r.etag)}
	switch {
	case r.end != math.MaxInt64:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", r.next, r.end-1))
	case r.next > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", r.next))
	default:
		in.ChecksumMode = types.ChecksumModeEnabled
	}
	out, err := r.b.client.GetObject(r.ctx, in)
	if status(err) == http.StatusPreconditionFailed {
		return storage.ErrChanged
	}
	if err != nil {
		return err
	}
	if err := r.accept(in.Range != nil, out); err != nil {
		out.Body.Close()
		return err
	}
	return nil
}

// accept takes the answer if it is the range that was asked for.
func (r *reader) accept(ranged bool, out *s3.GetObjectOutput) error {
	if out.ContentLength == nil {
		return fmt.Errorf("%w: it does not say how long the object is", storage.ErrUnavailable)
	}
	if want := fmt.Sprintf("bytes %d-", r.next); ranged && !strings.HasPrefix(aws.ToString(out.ContentRange), want) {
		return fmt.Errorf("%w: asked for the bytes from %d on, it sends %.80q", storage.ErrUnavailable, r.next, aws.ToString(out.ContentRange))
	}
	// Not every store knows If-Match. A proxy may make a weak tag of a strong one.
	if got := strings.TrimPrefix(unquote(out.ETag), `W/"`); got != "" && r.etag != "" && got != r.etag {
		return fmt.Errorf("%w: its ETag is %.80q", storage.ErrChanged, got)
	}
	// Its end is the object's where that comes before ours.
	r.end = min(r.end, r.next+*out.ContentLength)
	r.etag, r.body = cmp.Or(r.etag, unquote(out.ETag)), out.Body
	return nil
}

func (r *reader) Read(p []byte) (int, error) {
	for r.err == nil {
		n, err := r.body.Read(p)
		r.next += int64(n)
		if n > 0 {
			r.failures = 0
		}
		switch {
		case err == nil:
			return n, nil
		case err == io.EOF && r.next == r.end:
			r.err = io.EOF
		case err == io.EOF:
			r.recover(io.ErrUnexpectedEOF)
		default:
			r.recover(err)
		}
		if n > 0 {
			return n, r.err
		}
	}
	return 0, r.err
}

// recover goes on after a broken connection, or sets r.err.
func (r *reader) recover(err error) {
	for err != nil {
		_ = r.body.Close()
		r.failures++
		if kindOf(err) != storage.ErrUnavailable || r.ctx.Err() != nil || r.failures >= r.b.opts.Attempts || r.next >= r.end {
			r.err = r.b.fail(r.ctx, "read", r.key, err)
			return
		}
		err = r.connect()
	}
}

func (r *reader) Close() error {
	_ = r.body.Close() // what it says of a body that was left early is of no interest
	return nil
}
