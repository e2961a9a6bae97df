// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package buckets opens the bucket that a URL names, with the driver for its scheme. Programs know this package and not the drivers.
package buckets

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/file"
	"example.io/coredump/pkg/storage/s3"
)

// Usage says what URLs there are, for the help of programs.
const Usage = `A URL:

file:///path?<parameters>
      A directory of a mounted file system (NFS, CephFS, a local disk), which must exist. New files and directories
      get the access that owner and group have to it; others get none. Memory of an upload: 1 MiB.
  verify=true|false
      Read what was written back and compare checksums before an upload counts as stored (default true). With false, that fsync(2)
      succeeded is all that is known.

s3://bucket/prefix?<parameters>
      Amazon S3, or any store with its protocol. Credentials come from where the AWS SDKs look for them: AWS_ACCESS_KEY_ID and
      AWS_SECRET_ACCESS_KEY, shared files, web identity (IRSA), the container's or the machine's role.
      Memory of an upload: part-size x (concurrency + 1), 32 MiB by default; only what may be longer than part-size x 10,000 needs
      larger parts, of which at least two are kept.
  endpoint=http[s]://host[:port]
      URL of the store (default: Amazon S3).
  region=NAME
      (default: that of the environment; us-east-1 where endpoint is set)
  profile=NAME
      Section of the shared files (default: AWS_PROFILE, or "default").
  path-style=true|false
      Put the bucket into the path of requests, not into the host name (default: true where endpoint is set).
  ca-file=PATH
      PEM file of certificates to trust besides the system's.
  sse=AES256|aws:kms|aws:kms:dsse
      Server-side encryption to ask for (default: what the bucket does by itself).
  kms-key-id=ID
      Key for sse=aws:kms and aws:kms:dsse (default: the account's own).
  storage-class=NAME
      Storage class of new objects (default: the store's). Not GLACIER or DEEP_ARCHIVE, which cannot be read at once.
  part-size=SIZE
      Size of the parts of large uploads, 5Mi to 5Gi (default 8Mi).
  concurrency=N
      Parts that one upload sends at a time, 1 to 64 (default 3).
  checksum=crc64nvme|crc32c|sha256|md5
      Checksum that the store verifies and returns (default crc64nvme). The others are for stores that do not know it; md5 is
      Content-MD5, which all know.
  timeout=DURATION
      Give a request up when no byte of it has moved for so long, 1s to 1h (default 30s).
  attempts=N
      How often a request is tried, 1 to 10 (default 3).
`

// Open opens the bucket that rawURL names. Its error names everything that is wrong with the URL, and is of kind
// storage.ErrInvalid where something is. It asks no store whether it is there: that is what Ping is for.
func Open(ctx context.Context, rawURL string) (storage.Bucket, error) {
	u, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "file":
		dir, opts, err := fileOptions(u)
		if err != nil {
			return nil, invalid(u, err)
		}
		return opened(file.Open(dir, opts))
	case "s3":
		opts, err := s3Options(u)
		if err != nil {
			return nil, invalid(u, err)
		}
		b, err := s3.Open(ctx, opts)
		if err != nil {
			return nil, fmt.Errorf("store %q: %w", u.String(), err)
		}
		return b, nil
	}
	return nil, invalid(u, fmt.Errorf("scheme %q: must be s3 or file", u.Scheme))
}

// opened keeps a nil of a driver's type from becoming a bucket.
func opened(b *file.Bucket, err error) (storage.Bucket, error) {
	if err != nil {
		return nil, err
	}
	return b, nil
}

func parse(rawURL string) (*url.URL, error) {
	if rawURL == "" {
		return nil, fmt.Errorf("%w store: there is no URL; it must be s3://bucket/prefix?endpoint=... or file:///path", storage.ErrInvalid)
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		var cause *url.Error
		errors.As(err, &cause) // it repeats the URL, in which somebody may have put a password
		return nil, fmt.Errorf("%w store: %v; it must be a URL as s3://bucket/prefix?endpoint=... or file:///path", storage.ErrInvalid, cause.Err)
	}
	switch {
	case u.User != nil:
		return nil, fmt.Errorf("%w store %q: there must be no credentials in the URL; s3 takes them from the environment or from files", storage.ErrInvalid, u.Scheme+"://"+u.Host)
	case u.Fragment != "":
		return nil, invalid(u, fmt.Errorf("there must be no #%s at its end", u.Fragment))
	case u.Opaque != "":
		//lint:ignore ST1005 the colon belongs to the URL
		return nil, invalid(u, fmt.Errorf("there must be // after %s:", u.Scheme))
	}
	return u, nil
}

func invalid(u *url.URL, err error) error {
	return fmt.Errorf("%w store %q: %s", storage.ErrInvalid, u.String(), strings.ReplaceAll(err.Error(), "\n", "; "))
}
