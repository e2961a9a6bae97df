// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package tarball lays out tar archives of core dumps and streams them. It is pure: what is in an archive, in which
// order and at which offset, is known before the first byte is read, so the length of an archive is known too, and any
// range of it can be read without the rest. It knows nothing of HTTP or of buckets, and compresses nothing.
//
// A compressed archive is spliced: zstd frames and gzip members may follow each other, so [frame with a tar header]
// [body as it is stored] [frame with padding and the next header] … is a compressed tar. The frames that are made here
// have their content in stored blocks: what they are made of is a few KiB beside cores, and so their bytes
// follow from the formats alone (RFC 8878, RFC 1951, RFC 1952), not from the version of a compressor. A download can go on at another
// replica, and after an update.
package tarball
