// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package buckets

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/file"
	"example.io/coredump/pkg/storage/s3"
)

func fileOptions(u *url.URL) (dir string, opts file.Options, err error) {
	opts.Verify = true
	errs := []error{parameters{"verify": boolean(&opts.Verify)}.take(u)}
	switch {
	case u.Host != "":
		errs = append(errs, fmt.Errorf("host %q: there must be none: file:///path has three slashes", u.Host))
	case !path.IsAbs(u.Path) || path.Clean(u.Path) == "/":
		errs = append(errs, fmt.Errorf("path %q: must be that of a directory of its own, from the root", u.Path))
	case strings.ContainsRune(u.Path, 0):
		errs = append(errs, fmt.Errorf("path %q: must not contain NUL", u.Path))
	}
	return path.Clean(u.Path), opts, errors.Join(errs...)
}

// bucketName is the general rule of https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

func s3Options(u *url.URL) (opts s3.Options, err error) {
	endpoint, pathStyle := "", ""
	params := parameters{
		"endpoint":      text(&endpoint),
		"region":        text(&opts.Region),
		"profile":       text(&opts.Profile),
		"path-style":    oneOf(&pathStyle, "true", "false"),
		"ca-file":       text(&opts.CAFile),
		"sse":           oneOf(&opts.SSE, "AES256", "aws:kms", "aws:kms:dsse"),
		"kms-key-id":    text(&opts.KMSKeyID),
		"storage-class": storageClass(&opts.StorageClass),
		"part-size":     size(&opts.PartSize, s3.MinPartSize, s3.MaxPartSize),
		"concurrency":   number(&opts.Concurrency, 1, s3.MaxConcurrency),
		"checksum":      oneOf(&opts.Checksum, s3.Checksums()...),
		"timeout":       duration(&opts.Timeout, time.Second, time.Hour),
		"attempts":      number(&opts.Attempts, 1, 10),
	}
	errs := []error{params.take(u)}

	if opts.Bucket = u.Host; !bucketName.MatchString(u.Host) {
		errs = append(errs, fmt.Errorf("bucket %.80q: must be 3 to 63 lower case letters, digits, dots and hyphens", u.Host))
	}
	opts.Prefix = strings.Trim(u.Path, "/")
	if opts.Prefix != "" {
		if err := storage.CheckKey(opts.Prefix); err != nil {
			errs = append(errs, fmt.Errorf("prefix: %w", err))
		} else if len(opts.Prefix) > storage.MaxPrefixSize {
			errs = append(errs, fmt.Errorf("prefix of %d bytes: at most %d are allowed", len(opts.Prefix), storage.MaxPrefixSize))
		}
	}
	if endpoint != "" {
		opts.Endpoint, err = baseURL(endpoint)
		errs = append(errs, err)
	}
	opts.PathStyle = pathStyle == "true" || pathStyle == "" && endpoint != ""
	if opts.KMSKeyID != "" && !strings.HasPrefix(opts.SSE, "aws:kms") {
		errs = append(errs, errors.New("parameter kms-key-id: needs sse=aws:kms or sse=aws:kms:dsse"))
	}
	return opts, errors.Join(errs...)
}

// baseURL is the endpoint without a "/" at its end.
func baseURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("parameter endpoint=%.200q: must be http[s]://host[:port]", s)
	}
	return u.Scheme + "://" + u.Host, nil
}

func storageClass(to *string) func(string) error {
	name := regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	return func(s string) error {
		switch *to = s; {
		case s == "GLACIER" || s == "DEEP_ARCHIVE":
			return errors.New("must be one whose objects can be read at once")
		case !name.MatchString(s):
			return errors.New("must be the name of a storage class, for example STANDARD_IA")
		}
		return nil
	}
}
