// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package download

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/tarball"
)

// files gives each dump its files in the archive: the core, beside it the record as it is in the bucket, and the files of the context.
// Whys says for each dump why its context cannot be served, with "" where it can. The files are for one reader of an archive.
func (s *Server) files(records []*v1alpha1.CoreDump, infos []storage.BodyInfo, whys []string) ([]tarball.File, error) {
	named := make([]tarball.Core, 0, len(records))
	for _, r := range records {
		k, err := storage.ParseName(r.Namespace, r.Name)
		if err != nil {
			return nil, err
		}
		p := r.Spec.Process
		named = append(named, tarball.Core{
			Container:  k.Container,
			Executable: cmp.Or(p.Executable, p.Comm),
			Time:       p.Time.Time,
			PID:        cmp.Or(p.PID, p.HostPID),
			Signal:     p.Signal,
			ID:         k.ID,
		})
	}
	var files []tarball.File
	contexts := &contexts{bundles: s.bundles}
	for i, name := range tarball.Names(named) {
		record, err := recordFile(records[i], name+".json")
		if err != nil {
			return nil, fmt.Errorf("lay out %s: %w", records[i].Name, err)
		}
		files = append(files, s.core(records[i], name, infos[i]), record)
		files = append(files, contexts.beside(records[i], name, whys[i])...)
	}
	return files, nil
}

// core is the core, with what is stored of it where that can be spliced.
func (s *Server) core(r *v1alpha1.CoreDump, name string, info storage.BodyInfo) tarball.File {
	f := tarball.File{
		Name:    name,
		Size:    r.Status.Size,
		ModTime: r.Spec.Process.Time.Time,
		Open:    func(ctx context.Context) (io.ReadCloser, error) { return s.Cores.OpenCore(ctx, r) },
		// Not the sum alone: of a range nobody computes it, and the object may be another than the one of the record.
		ID: "sha256:" + r.Status.SHA256 + " " + info.ID,
	}
	if info.Seekable {
		f.OpenRange = func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
			return s.Cores.OpenCoreRange(ctx, r, offset, length)
		}
	}
	if e := encodings[storage.Codec(r.Status.Codec)]; e != tarball.Plain {
		f.Stored = &tarball.Stored{
			Encoding: e,
			Size:     r.Status.StoredSize,
			OpenRange: func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
				return s.Cores.OpenBody(ctx, r, offset, length)
			},
			ID: f.ID,
		}
	}
	return f
}

func recordFile(r *v1alpha1.CoreDump, name string) (tarball.File, error) {
	k, err := storage.ParseName(r.Namespace, r.Name)
	if err != nil {
		return tarball.File{}, err
	}
	data, err := storage.EncodeRecord(k, r)
	if err != nil {
		return tarball.File{}, err
	}
	return tarball.Bytes(name, r.Spec.Process.Time.Time, data), nil
}
