// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package s3 is the driver for Amazon S3 and stores that speak its protocol. It alone knows the AWS SDK.
//
// What the credentials must allow, on the objects below the prefix unless said otherwise: Put s3:PutObject and, to clean up, s3:AbortMultipartUpload;
// Open and Stat s3:GetObject; List, ListDirs and Ping s3:ListBucket on the bucket; Delete s3:DeleteObject; Uploads
// s3:ListBucketMultipartUploads on the bucket; AbortUpload s3:AbortMultipartUpload. With a KMS key, Put needs
// kms:GenerateDataKey and kms:Decrypt (for parts), and Open and Stat kms:Decrypt.
package s3

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"example.io/coredump/pkg/storage"
)

// Options of the driver.
type Options struct {
	// Bucket is the name of the bucket. Prefix, which does not begin or end with "/", is put before every key, with a "/".
	Bucket, Prefix string
	// Endpoint is the URL of the store: http or https, host, port. Empty for Amazon S3.
	Endpoint string
	// Region overrides the one of the environment. us-east-1 if there is none and Endpoint is set.
	Region string
	// Profile chooses one of the shared configuration files.
	Profile string
	// PathStyle puts the bucket into the path and not into the host name, as most stores other than Amazon S3 need it.
	PathStyle bool
	// CAFile has PEM certificates that are trusted besides the system's.
	CAFile string
	// SSE is the server-side encryption asked for: AES256, aws:kms, aws:kms:dsse, or what the bucket does by default if empty.
	SSE string
	// KMSKeyID is the key for aws:kms and aws:kms:dsse; the account's default key if empty.
	KMSKeyID string
	// StorageClass of new objects; the bucket's default if empty.
	StorageClass string
	// PartSize is the size in bytes of the parts of large uploads, at least MinPartSize.
	PartSize int64
	// Concurrency is the number of parts that one Put sends at a time.
	Concurrency int
	// Checksum is the algorithm that uploads are checked with: one of Checksums.
	Checksum string
	// Timeout is how long a request may take without a byte of it moving.
	Timeout time.Duration
	// Attempts is how often a request is made before it counts as failed.
	Attempts int
}

// The values of options that are left zero, and their limits.
const (
	DefaultPartSize    = 8 << 20
	MinPartSize        = 5 << 20 // what S3 demands of all parts but the last
	MaxPartSize        = 5 << 30 // and allows
	DefaultConcurrency = 3
	MaxConcurrency     = 64
	DefaultChecksum    = "crc64nvme"
	DefaultTimeout     = 30 * time.Second
	DefaultAttempts    = 3
)

// maxParts is the number of parts that S3 allows an upload.
const maxParts = 10_000

// completeTimeout is how long a store may think about CompleteMultipartUpload: some copy all the bytes then.
const completeTimeout = 15 * time.Minute

// Bucket is a bucket of an S3 store, or the part of it below a prefix. Safe for concurrent use.
type Bucket struct {
	client *s3.Client
	// patient completes uploads.
	patient  func(*s3.Options)
	opts     Options
	prefix   string // empty, or ends with "/"
	checksum algorithm
	buffers  sync.Pool // of *[]byte, of PartSize
}

var _ storage.Bucket = &Bucket{}

// Open gives the bucket. It reads configuration and credentials of the environment as the AWS SDK does, and asks no store.
func Open(ctx context.Context, opts Options) (*Bucket, error) {
	defaulted(&opts.PartSize, DefaultPartSize)
	defaulted(&opts.Concurrency, DefaultConcurrency)
	defaulted(&opts.Checksum, DefaultChecksum)
	defaulted(&opts.Timeout, DefaultTimeout)
	defaulted(&opts.Attempts, DefaultAttempts)
	sum, err := algorithmOf(opts.Checksum)
	if err != nil {
		return nil, err
	}
	cfg, err := load(ctx, opts)
	if err != nil {
		return nil, err
	}
	b := &Bucket{
		client:   newClient(cfg, opts, sum),
		patient:  func(o *s3.Options) { o.HTTPClient = &watchful{cfg.HTTPClient, max(completeTimeout, opts.Timeout)} },
		opts:     opts,
		checksum: sum,
	}
	if opts.Prefix != "" {
		b.prefix = opts.Prefix + "/"
	}
	return b, nil
}

func defaulted[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// full is the key in the store.
func (b *Bucket) full(key string) *string { return aws.String(b.prefix + key) }

// Stat implements storage.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (storage.Object, error) {
	obj, err := b.stat(ctx, key, "")
	return obj, b.fail(ctx, "stat", key, err)
}

func (b *Bucket) stat(ctx context.Context, key, etag string) (storage.Object, error) {
	if err := storage.CheckKey(key); err != nil {
		return storage.Object{}, err
	}
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: &b.opts.Bucket, Key: b.full(key), IfMatch: ifMatch(etag), ChecksumMode: types.ChecksumModeEnabled,
	})
	if status(err) == http.StatusPreconditionFailed {
		return storage.Object{}, storage.ErrChanged
	}
	if err != nil {
		return storage.Object{}, err
	}
	return storage.Object{
		Key: key, Size: aws.ToInt64(out.ContentLength), ETag: unquote(out.ETag), LastModified: modified(out.LastModified),
		Checksum: anyChecksum(out.ChecksumCRC64NVME, out.ChecksumCRC32C, out.ChecksumSHA256),
	}, nil
}

// modified cuts to seconds: some stores list fractions that they do not tell elsewhere.
func modified(t *time.Time) time.Time { return aws.ToTime(t).UTC().Truncate(time.Second) }

// unquote gives an ETag without the quotes of its HTTP header.
func unquote(etag *string) string { return strings.Trim(aws.ToString(etag), `"`) }

func ifMatch(etag string) *string {
	if etag == "" {
		return nil
	}
	return aws.String(`"` + etag + `"`)
}

// Ping implements storage.Bucket.
func (b *Bucket) Ping(ctx context.Context) error {
	_, err := b.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.opts.Bucket})
	return b.fail(ctx, "ping", b.opts.Bucket, err)
}
