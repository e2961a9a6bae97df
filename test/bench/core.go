// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	"example.io/coredump/pkg/corefile/corefiletest"
)

// pageSize is what memory changes its character by.
const pageSize = 4096

// kinds of pages and how many of a hundred are of it. Together they compress about four to one, as the cores of services do.
var kinds = []struct {
	percent int
	fill    func(*rand.Rand, []byte)
}{
	{44, func(_ *rand.Rand, page []byte) { clear(page) }},
	{32, fillText},
	{14, fillPointers},
	{10, fillRandom},
}

// writeCore writes a core of the given length: a valid ELF core whose memory has pages of each kind, in runs, the same ones for the same seed.
func writeCore(w io.Writer, size int64, seed uint64) error {
	out := bufio.NewWriterSize(w, 1<<20)
	if _, err := out.Write(corefiletest.Header(size)); err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(seed, 0))
	page := make([]byte, pageSize)
	for left := size - corefiletest.MinSize; left > 0; {
		fill := chooseKind(rnd)
		for n := 1 + rnd.IntN(32); n > 0 && left > 0; n-- {
			fill(rnd, page)
			part := page[:min(pageSize, left)]
			if _, err := out.Write(part); err != nil {
				return err
			}
			left -= int64(len(part))
		}
	}
	return out.Flush()
}

func chooseKind(rnd *rand.Rand) func(*rand.Rand, []byte) {
	n := rnd.IntN(100)
	for _, k := range kinds {
		if n -= k.percent; n < 0 {
			return k.fill
		}
	}
	panic("the kinds are less than a hundred per cent")
}

var words = []string{
	"user", "id", "name", "value", "error", "timeout", "connection", "refused", "GET", "POST", "/api/v1/items", "/healthz",
	"application/json", "Content-Type", "Authorization", "Bearer", "session", "created_at", "updated_at", "2026-01-", "T12:",
	"true", "false", "null", "status", "pending", "complete", "{\"", "\":\"", "\",\"", "\"}", "\x00\x00\x00", " ", "=", "; ", "retry", "host", "port",
}

// fillText is a heap of strings: words, and numbers between them.
func fillText(rnd *rand.Rand, page []byte) {
	for n := 0; n < len(page); {
		if rnd.IntN(6) == 0 {
			n += copy(page[n:], fmt.Append(nil, rnd.IntN(100000)))
		} else {
			n += copy(page[n:], words[rnd.IntN(len(words))])
		}
	}
}

// fillPointers is a heap of objects that point to each other: addresses of one region, small lengths, and unused fields.
func fillPointers(rnd *rand.Rand, page []byte) {
	const region = 0x00007f3a_5c000000
	for n := 0; n+8 <= len(page); n += 8 {
		value := uint64(0)
		switch rnd.IntN(4) {
		case 0, 1:
			value = region + uint64(rnd.IntN(1<<18))*16
		case 2:
			value = uint64(rnd.IntN(64))
		}
		binary.LittleEndian.PutUint64(page[n:], value)
	}
}

// fillRandom is what does not compress: pictures, compressed buffers, keys.
func fillRandom(rnd *rand.Rand, page []byte) {
	for n := 0; n+8 <= len(page); n += 8 {
		binary.LittleEndian.PutUint64(page[n:], rnd.Uint64())
	}
}

// makeCore writes a core into a file and waits until it is on the disk.
func makeCore(file string, size int64) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := writeCore(f, size, 1); err != nil {
		return err
	}
	return f.Sync()
}
