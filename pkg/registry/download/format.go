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
	// Codec is how it is compressed.
	Codec storage.Codec
	// Core tells that it is a core alone, and no archive.
	Core bool
}

// archives are the formats of any number of dumps. The first is the default.
var archives = []Format{
	{Name: "tar.gz", MediaType: "application/gzip", Codec: storage.CodecGzip},
	{Name: "tar.zst", MediaType: "application/zstd", Codec: storage.CodecZstd},
	{Name: "tar", MediaType: "application/x-tar", Codec: storage.CodecNone},
}

// formats are all: the archives, and those of one dump.
var formats = append(slices.Clone(archives),
	Format{Name: "core", MediaType: "application/octet-stream", Codec: storage.CodecNone, Core: true},
	Format{Name: "core.zst", MediaType: "application/zstd", Codec: storage.CodecZstd, Core: true},
)

func formatNamed(name string) (Format, bool) {
	i := slices.IndexFunc(formats, func(f Format) bool { return f.Name == name })
	if i < 0 {
		return Format{}, false
	}
	return formats[i], true
}

// formatAccepted gives the archive that the header Accept likes best. Anything that names none of our media types,
// as kubectl's "application/json, */*" does not, means the default.
func formatAccepted(accept string) Format {
	clauses := goautoneg.ParseAccept(accept)
	slices.SortStableFunc(clauses, func(a, b goautoneg.Accept) int { return cmp.Compare(b.Q, a.Q) })
	for _, c := range clauses {
		for _, f := range archives {
			if c.Q > 0 && strings.EqualFold(c.Type+"/"+c.SubType, f.MediaType) {
				return f
			}
		}
	}
	return archives[0]
}

func formatNames() string { return namesOf(formats) }

func archiveNames() string { return namesOf(archives) }

func namesOf(formats []Format) string {
	var names []string
	for _, f := range formats {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}
