// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package fetch brings the bytes of a core dump from an HTTP server to a local file, whatever happens on the way.
//
// The object is fetched in ranges, several at a time, each with If-Match on the strong entity tag that the first answer had. What has arrived is
// written to <name>.part and noted in <name>.state beside it, so that whoever is interrupted, killed or cut off goes on
// where it was, today or tomorrow. What has arrived in one piece from the start is decompressed at the same time into <name>'s sparse
// successor, checked frame by frame, and hashed. The file gets its name only when its SHA-256 is that of the record; the others are
// removed then. A server that has no ranges is read from front to back, and verified alike.
//
// Nothing that the server says is believed beyond what the record announced: no more bytes than that are written, and no name comes from it.
// The package knows HTTP, zstd and files, and nothing of Kubernetes.
package fetch
