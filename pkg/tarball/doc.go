// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package tarball lays out tar archives of core dumps and streams them. It is pure: what is in an archive, in which
// order and at which offset, is known before the first byte is read, so the length of an archive is known too. It
// knows nothing of HTTP, of buckets, or of compression, which goes around the stream.
package tarball
