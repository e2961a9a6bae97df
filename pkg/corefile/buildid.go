// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package corefile

import (
	"bytes"
	"debug/elf"
	"encoding/hex"
)

// maxBuildID bounds a build id in bytes; those in use have 8 to 32.
const maxBuildID = 32

// buildID tells of the first page of a file whether it is an ELF file, and its GNU build id in hex; "" where the page has none.
func buildID(page []byte) (isELF bool, id string) {
	if len(page) < identSize || string(page[:len(elf.ELFMAG)]) != elf.ELFMAG {
		return false, ""
	}
	class := elf.Class(page[elf.EI_CLASS])
	l, known := layouts[class]
	order := byteOrder(elf.Data(page[elf.EI_DATA]))
	if !known || order == nil || len(page) < l.ehdr {
		return true, ""
	}
	e := decodeEhdr(class, order, page)
	at := e.phoff
	for range e.phnum {
		if at > uint64(len(page)) || uint64(len(page))-at < uint64(l.phdr) {
			break
		}
		ph := decodePhdr(class, order, page[at:])
		at += uint64(l.phdr)
		if ph.kind != elf.PT_NOTE || ph.off >= uint64(len(page)) {
			continue
		}
		notes := page[ph.off:]
		notes = notes[:min(ph.filesz, uint64(len(notes)))]
		for len(notes) >= 12 {
			name, desc, kind := uint64(order.Uint32(notes)), uint64(order.Uint32(notes[4:])), order.Uint32(notes[8:])
			from := 12 + (name+3)&^3
			next := from + (desc+3)&^3 // not more than 2^34
			if from+desc > uint64(len(notes)) {
				break
			}
			if kind == ntGNUBuildID && string(notes[12:from]) == "GNU\x00" && desc > 0 && desc <= maxBuildID {
				return true, hex.EncodeToString(notes[from : from+desc])
			}
			notes = notes[min(next, uint64(len(notes))):]
		}
	}
	return true, looseBuildID(page)
}

const ntGNUBuildID = 3 // NT_GNU_BUILD_ID

// looseBuildID looks for the note itself: the Go linker puts it into the first page, but into no PT_NOTE segment.
func looseBuildID(page []byte) string {
	const sha1 = 20
	for _, head := range []string{"\x04\x00\x00\x00\x14\x00\x00\x00\x03\x00\x00\x00GNU\x00", "\x00\x00\x00\x04\x00\x00\x00\x14\x00\x00\x00\x03GNU\x00"} {
		if _, rest, ok := bytes.Cut(page, []byte(head)); ok && len(rest) >= sha1 {
			return hex.EncodeToString(rest[:sha1])
		}
	}
	return ""
}
