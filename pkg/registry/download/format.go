// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package download

import (
	"cmp"
	"slices"
	"strings"

	"github.com/munnerz/goautoneg"

	"example.io/coredump/pkg/storage"
)

// Format is what a download looks like.
type Format struct {
	// Name is the value of the parameter format and the suffix of the file.
	Name string
	// MediaType of the answer. It is never a Content-Encoding: proxies and clients would undo that on the way.
	MediaType string
	// Codec goes around the archive.
	Codec storage.Codec
}

// The formats. The first is the default.
var formats = []Format{
	{"tar.gz", "application/gzip", storage.CodecGzip},
	{"tar.zst", "application/zstd", storage.CodecZstd},
	{"tar", "application/x-tar", storage.CodecNone},
}

func formatNamed(name string) (Format, bool) {
	i := slices.IndexFunc(formats, func(f Format) bool { return f.Name == name })
	if i < 0 {
		return Format{}, false
	}
	return formats[i], true
}

// formatAccepted gives the format that the header Accept likes best. Anything that names none of our media types,
// as kubectl's "application/json, */*" does not, means the default.
func formatAccepted(accept string) Format {
	clauses := goautoneg.ParseAccept(accept)
	slices.SortStableFunc(clauses, func(a, b goautoneg.Accept) int { return cmp.Compare(b.Q, a.Q) })
	for _, c := range clauses {
		for _, f := range formats {
			if c.Q > 0 && strings.EqualFold(c.Type+"/"+c.SubType, f.MediaType) {
				return f
			}
		}
	}
	return formats[0]
}

func formatNames() string {
	var names []string
	for _, f := range formats {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}
