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
// Whys says for each dump why its context cannot be served, with "" where it can.
func files(cores Cores, records []*v1alpha1.CoreDump, whys []string) ([]tarball.File, error) {
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
	contexts := &contexts{cores: cores}
	for i, name := range tarball.Names(named) {
		core, record, err := pair(cores, records[i], name)
		if err != nil {
			return nil, fmt.Errorf("lay out %s: %w", records[i].Name, err)
		}
		files = append(files, core, record)
		files = append(files, contexts.beside(records[i], name, whys[i])...)
	}
	return files, nil
}

func pair(cores Cores, r *v1alpha1.CoreDump, name string) (core, record tarball.File, err error) {
	k, err := storage.ParseName(r.Namespace, r.Name)
	if err != nil {
		return core, record, err
	}
	data, err := storage.EncodeRecord(k, r)
	if err != nil {
		return core, record, err
	}
	core = tarball.File{
		Name:    name,
		Size:    r.Status.Size,
		ModTime: r.Spec.Process.Time.Time,
		Open:    func(ctx context.Context) (io.ReadCloser, error) { return cores.OpenCore(ctx, r) },
	}
	record = tarball.File{
		Name:    name + ".json",
		Size:    int64(len(data)),
		ModTime: core.ModTime,
		Open:    func(context.Context) (io.ReadCloser, error) { return inMemory(data), nil },
	}
	return core, record, nil
}
