// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// block is the unit of a tar archive (POSIX.1-1988).
const block = 512

// maxTar bounds the length of the archive in bytes: of each file a header and the padding, a block each, and what tar programs
// pad an archive with (20 blocks) at its end.
const maxTar = MaxSize + MaxFiles*2*block + 20*block

// Decode gives the files of a bundle. It takes what Encode writes and nothing beyond: regular files with allowed names, no extensions of the
// format, nothing behind the end. Its errors are of kind ErrCorrupt, or r's own. It never holds more than MaxSize bytes of files and a
// few MiB beside; how long r is bounded is the caller's business.
func Decode(r io.Reader) ([]File, error) {
	var files []File
	err := walk(r, func(e Entry, content io.Reader) error {
		data := make([]byte, e.Size) // the sum of the sizes has been checked
		_, err := io.ReadFull(content, data)
		files = append(files, File{e.Name, data})
		return err
	})
	if err != nil {
		return nil, err
	}
	return files, nil
}

// List gives names and sizes of what Decode would give, and refuses what Decode would refuse, without keeping the data.
func List(r io.Reader) ([]Entry, error) {
	var entries []Entry
	err := walk(r, func(e Entry, content io.Reader) error {
		_, err := io.CopyN(io.Discard, content, e.Size)
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// walk gives each file of a bundle to visit, which reads all of it.
func walk(r io.Reader, visit func(Entry, io.Reader) error) error {
	src := &source{r: r}
	z, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
	if err != nil {
		return src.blame(err)
	}
	defer z.Close()
	plain := &bounded{r: z, left: maxTar}
	least := int64(2 * block) // the end of an archive
	err = walkTar(tar.NewReader(plain), func(e Entry, content io.Reader) error {
		least += block + (e.Size+block-1)/block*block
		return visit(e, content)
	})
	if err == nil {
		err = onlyZeros(plain)
	}
	if n := maxTar - plain.left; err == nil && n < least {
		err = fmt.Errorf("%d bytes of %d", n, least) // tar's own reader does not mind
	}
	return src.blame(err)
}

func walkTar(t *tar.Reader, visit func(Entry, io.Reader) error) error {
	var s set
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return unexpected(err)
		}
		// The reader says ustar of a header only where nothing of another format (links to long names, sparse files) is about it.
		if h.Typeflag != tar.TypeReg || h.Format != tar.FormatUSTAR || len(h.PAXRecords) > 0 {
			return fmt.Errorf("%.80q is no plain file", h.Name)
		}
		e := Entry{h.Name, h.Size}
		if err := s.add(e); err != nil {
			return err
		}
		if err := visit(e, t); err != nil {
			return unexpected(err)
		}
	}
}

// onlyZeros reads what is left, as tar pads its archives with.
func onlyZeros(r io.Reader) error {
	buf := make([]byte, 4<<10)
	for {
		n, err := r.Read(buf)
		for _, b := range buf[:n] {
			if b != 0 {
				return errors.New("there is something behind the end")
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// bounded fails where there is more than allowed.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("more than %d bytes when decompressed", maxTar)
	}
	return n, err
}

// source tells errors of the reader from errors of what was read.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (s *source) blame(err error) error {
	switch {
	case err == nil:
		return nil
	case s.err != nil:
		return s.err
	}
	return fmt.Errorf("%w: %.200q", ErrCorrupt, err)
}
