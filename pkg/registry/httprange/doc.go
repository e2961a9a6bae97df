// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package httprange decides what a GET or HEAD of something that is known by its length and its entity tag gets:
// all of it, a range, or nothing. It is pure, and follows RFC 9110, sections 13 and 14. It differs from net/http.ServeContent
// where that needs an io.ReadSeeker, answers several ranges in one multipart, heeds Range in a HEAD, or is stricter or more
// lenient than the RFC: see Decide.
package httprange
