// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package seekable writes and reads zstd in the seekable format: independent frames, each with a few MiB of content, and at
// the end a table of their sizes in a skippable frame. Every zstd decoder reads it as one stream. Whoever
// reads the table can have any range of the content from the frames it is in, decompressed on several cores.
//
// The format is zstd_seekable_compression_format.md in contrib/seekable_format of github.com/facebook/zstd, version 0.1.0.
// The package knows nothing of where the bytes are: it writes to an io.Writer and reads through an Opener.
package seekable
