// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// window bounds what a decoder has to keep beside the files.
const window = 1 << 20

// Encode gives the bundle of the files, a tar.zst. The same files give the same bytes, in whatever order they are: times and owners are
// zero, names sorted. It fails with ErrInvalid for what Check refuses. It keeps nothing of files and changes nothing in them.
func Encode(files []File) ([]byte, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	var s set
	for _, f := range files {
		if err := s.add(Entry{f.Name, int64(len(f.Data))}); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	err = writeTar(z, files)
	if closeErr := z.Close(); err == nil {
		err = closeErr
	}
	return out.Bytes(), err
}

func writeTar(to io.Writer, files []File) error {
	w := tar.NewWriter(to)
	for _, f := range files {
		err := w.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: f.Name, Size: int64(len(f.Data)), Mode: 0o600,
			ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
		})
		if err == nil {
			_, err = w.Write(f.Data)
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", f.Name, err)
		}
	}
	return w.Close()
}
