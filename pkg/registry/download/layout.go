// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package download

import (
	"context"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/httprange"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/tarball"
)

// maxUncompressed is how many bytes of cores, in all, may be in a compressed archive without being compressed, so that it
// need not be made anew for every request: then it has a length, and can be resumed.
const maxUncompressed = 16 << 20

// content is what a request asks for.
type content struct {
	archive *tarball.Archive
	// codec goes around the archive while it is sent. With CodecNone it is sent as it is.
	codec storage.Codec
}

// representation is what is known of the content before it is sent. Of what is compressed on the way, nothing is: another replica, or version, may
// compress it otherwise.
func (c content) representation() httprange.Representation {
	if c.codec != storage.CodecNone {
		return httprange.Representation{Size: -1}
	}
	return httprange.Representation{Size: c.archive.Size(), ETag: c.archive.ETag(), Seekable: c.archive.Seekable()}
}

// encodings are those of codecs.
var encodings = map[storage.Codec]tarball.Encoding{storage.CodecNone: tarball.Plain, storage.CodecZstd: tarball.Zstd, storage.CodecGzip: tarball.Gzip}

// layOut says what is sent, and compares it with the store as far as that is possible beforehand.
func (t *transfer) layOut(ctx context.Context, f Format, records []*v1alpha1.CoreDump) (content, error) {
	ctx, cancel := context.WithTimeout(ctx, selectTimeout)
	defer cancel()
	t.dumps = len(records)
	for _, r := range records {
		t.size += r.Status.Size
	}
	if f.Core {
		if err := single(f, records); err != nil {
			return content{}, err
		}
	}
	infos, err := checkBodies(ctx, t.server.Cores, records)
	if err != nil {
		return content{}, err
	}
	if f.Core {
		return t.layOutCore(f, records[0], infos[0])
	}
	whys, err := t.server.bundles.checkAll(ctx, records)
	if err != nil {
		return content{}, err
	}
	files, err := t.server.files(records, infos, whys)
	if err != nil {
		return content{}, err
	}
	e := encodings[f.Codec]
	if uncompressed(records, f.Codec) <= maxUncompressed && sized(records, infos, f.Codec) && tarball.Spliceable(files, e) || e == tarball.Plain {
		archive, err := tarball.Splice(files, e)
		return content{archive: archive}, err
	}
	archive, err := tarball.New(files)
	return content{archive, f.Codec}, err
}

// sized tells whether what would be spliced is known to be as long as the header before it says. What is not is decompressed on the way, and so compared with its
// record: a tar whose headers lie is taken for a good one by some programs.
func sized(records []*v1alpha1.CoreDump, infos []storage.BodyInfo, c storage.Codec) bool {
	for i, r := range records {
		if storage.Codec(r.Status.Codec) == c && !infos[i].Sized {
			return false
		}
	}
	return true
}

// uncompressed is how many bytes of cores are not stored as the codec says.
func uncompressed(records []*v1alpha1.CoreDump, c storage.Codec) (n int64) {
	for _, r := range records {
		if storage.Codec(r.Status.Codec) != c {
			n += r.Status.Size
		}
	}
	return n
}

// single refuses what is not one core that can be had in the format.
func single(f Format, records []*v1alpha1.CoreDump) error {
	if len(records) != 1 {
		return badRequest("format %s is one core dump and nothing else, %d are asked for; narrow it with latest=1, or ask for an archive: one of %s", f.Name, len(records), archiveNames())
	}
	if stored := storage.Codec(records[0].Status.Codec); f.Codec != storage.CodecNone && stored != f.Codec {
		return badRequest("format %s is what is stored, and this core dump is stored as %q; ask for format core", f.Name, "core."+string(stored))
	}
	return nil
}

func (t *transfer) layOutCore(f Format, r *v1alpha1.CoreDump, info storage.BodyInfo) (content, error) {
	core := t.server.core(r, r.Name, info)
	var archive *tarball.Archive
	var err error
	if f.Codec == storage.CodecNone {
		archive, err = tarball.Single(core)
	} else {
		archive, err = tarball.SingleStored(core)
	}
	return content{archive: archive}, err
}
