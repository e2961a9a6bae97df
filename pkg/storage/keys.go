// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"fmt"
	"strings"
)

const (
	// MaxKeySize is the length in bytes that S3 allows a key, with the bucket's prefix.
	MaxKeySize = 1024
	// MaxPrefixSize is the length in bytes that is allowed to the prefix of a bucket: the longest key of the
	// layout takes less than half of MaxKeySize.
	MaxPrefixSize = 512
	// maxComponent is NAME_MAX, the length that file systems allow a name.
	maxComponent = 255
)

// CheckKey refuses, with ErrInvalid, a key that some driver could not store or that means something else to
// a file system: an empty component, "." and "..", components of more than 255 bytes, bytes that are not
// printable ASCII.
func CheckKey(key string) error {
	if len(key) > MaxKeySize {
		return fmt.Errorf("%w key of %d bytes: at most %d are allowed", ErrInvalid, len(key), MaxKeySize)
	}
	for component := range strings.SplitSeq(key, "/") {
		if component == "" || component == "." || component == ".." || len(component) > maxComponent {
			return fmt.Errorf(`%w key %.80q: components must be of 1 to %d bytes and neither "." nor ".."`, ErrInvalid, key, maxComponent)
		}
	}
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' {
			return fmt.Errorf("%w key %.80q: must be printable ASCII", ErrInvalid, key)
		}
	}
	return nil
}
