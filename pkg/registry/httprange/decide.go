// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package httprange

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Representation is what is there to be had.
type Representation struct {
	// Size is the length in bytes, negative where it is not known beforehand.
	Size int64
	// ETag is the strong entity tag with its quotes, or empty.
	ETag string
	// Seekable tells whether any range can be had.
	Seekable bool
}

// ranges tells whether ranges are served. Without a tag a client could not tell whether two of them fit together.
func (r Representation) ranges() bool { return r.Seekable && r.Size >= 0 && r.ETag != "" }

// Answer is what a request gets.
type Answer struct {
	// Code is 200, 206, 304, 412 or 416.
	Code int
	// Offset and Length are what is to be sent of the representation with 200 and 206, unless the method is HEAD. Length is
	// negative where the length of the whole is not known. With the other codes both are 0.
	Offset, Length int64

	of Representation
}

// Decide gives the answer to a request of method GET or HEAD with the header.
//
// Conditions are heeded in the order of RFC 9110, section 13.2.2. Dates are ignored, for the representation has none; an If-Range
// with a date never holds. Range is heeded with GET only, and ignored where it is in another unit than bytes or
// asks for more than one range: the answer is the whole then. The answer is 416 where no byte is in the range
// or it cannot be understood, unless the representation is empty.
func Decide(method string, h http.Header, r Representation) Answer {
	if match := h.Values("If-Match"); len(match) > 0 && !matches(match, r.ETag, false) {
		return Answer{Code: http.StatusPreconditionFailed, of: r}
	}
	if none := h.Values("If-None-Match"); len(none) > 0 && matches(none, r.ETag, true) {
		return Answer{Code: http.StatusNotModified, of: r}
	}
	whole := Answer{Code: http.StatusOK, Length: r.Size, of: r}
	fields := h.Values("Range")
	if method != http.MethodGet || len(fields) != 1 || !r.ranges() {
		return whole
	}
	if condition := h.Values("If-Range"); len(condition) > 0 && (len(condition) > 1 || trim(condition[0]) != r.ETag) {
		return whole
	}
	offset, length, result := parse(fields[0], r.Size)
	switch result {
	case partial:
		return Answer{Code: http.StatusPartialContent, Offset: offset, Length: length, of: r}
	case unsatisfiable:
		return Answer{Code: http.StatusRequestedRangeNotSatisfiable, of: r}
	}
	return whole
}

// SetHeader sets the header fields that belong to the answer: ETag, Accept-Ranges, Content-Range and Content-Length. With the codes
// 412 and 416 the body is the caller's, and so is its Content-Length.
func (a Answer) SetHeader(h http.Header) {
	if a.of.ETag != "" {
		h.Set("ETag", a.of.ETag)
	}
	accept := "none"
	if a.of.ranges() {
		accept = "bytes"
	}
	h.Set("Accept-Ranges", accept)
	switch a.Code {
	case http.StatusPartialContent:
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", a.Offset, a.Offset+a.Length-1, a.of.Size))
	case http.StatusRequestedRangeNotSatisfiable:
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", a.of.Size))
	}
	if (a.Code == http.StatusOK || a.Code == http.StatusPartialContent) && a.Length >= 0 {
		h.Set("Content-Length", strconv.FormatInt(a.Length, 10))
	}
}

// matches tells whether a list of entity tags has the tag, or is "*". A weak tag has only a weak match.
func matches(fields []string, tag string, weak bool) bool {
	for _, field := range fields {
		for rest := trim(field); rest != ""; rest = trim(rest) {
			if rest[0] == ',' {
				rest = rest[1:]
				continue
			}
			if rest[0] == '*' {
				return true
			}
			var got string
			if got, rest = entityTag(rest); got == "" {
				break
			}
			if weak {
				got = strings.TrimPrefix(got, "W/")
			}
			if got == tag {
				return true
			}
		}
	}
	return false
}

// entityTag cuts an entity tag from the start of s (RFC 9110, section 8.8.3). It is empty where there is none.
func entityTag(s string) (tag, rest string) {
	start := len(s) - len(strings.TrimPrefix(s, "W/"))
	if start == len(s) || s[start] != '"' {
		return "", s
	}
	for i := start + 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return s[:i+1], s[i+1:]
		case c < 0x21 || c == 0x7f:
			return "", s
		}
	}
	return "", s
}

func trim(s string) string { return strings.Trim(s, " \t") }
