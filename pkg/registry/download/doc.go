// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package download answers the subresources dump and proxy: it streams the cores that a request asks for as a tar archive, with
// the record of each and the files of its context.
//
// A client can always tell whether it has all of it. Until the first core has been opened and its first bytes have been
// read, whatever goes wrong is an API Status. From then on the stream ends complete, or the connection is
// aborted (RST_STREAM in HTTP/2, a closed connection in HTTP/1.1). It never ends clean after an error.
//
// A context that is missing or corrupt is left out, with a note in its place: a core must not be lost with it. Contexts are read once before the answer
// begins, to know that, and once more when the reader comes to them.
package download
