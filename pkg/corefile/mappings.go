// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package corefile

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
)

const (
	// maxPaths and maxPathBytes bound the paths of mapped files, maxPath the length of each: PATH_MAX and " (deleted)".
	maxPaths     = 1 << 14
	maxPathBytes = 1 << 20
	maxPath      = 4096 + 16
)

// mapping is a piece of a file that was mapped into the process.
type mapping struct {
	start, end, off uint64 // addresses, and the offset in the file
	file            int32  // index of the file; -1 where there were too many
	exec            bool
}

// file is a file of which there are mappings.
type file struct {
	path string
	// start is the address of its first mapping.
	start   uint64
	code    bool // a part of it could be executed
	elf     bool // it begins as an ELF file
	buildID string
}

// mappings are what NT_FILE says, in the order of addresses once finish has been called. See fill_files_note in fs/binfmt_elf.c: the
// number of them, the size of a page, three words each, then all paths.
type mappings struct {
	seen   bool // the note
	sorted bool // all is complete
	all    []mapping
	files  []file
	byPath map[string]int32
	texts  int // bytes in all paths
	count  uint64
	page   uint64
	read   uint64 // entries, then paths, that have passed
	path   []byte // begun
}

func (p *Parser) fileHead(b []byte) {
	m := &p.mappings
	m.seen, m.count, m.page = true, p.order.Uint64(b), p.order.Uint64(b[8:])
	if m.count > (p.note.desc-16)/24 {
		p.err = cmp.Or(p.err, fmt.Errorf("the note of mapped files has %d bytes: too few for %d mappings", p.note.desc, m.count))
		p.passTo(p.note.end, (*Parser).nextNote)
		return
	}
	m.all = make([]mapping, 0, min(m.count, maxKept))
	m.byPath = map[string]int32{}
	p.nextMapping()
}

func (p *Parser) nextMapping() {
	if p.mappings.read < p.mappings.count {
		p.gather(24, (*Parser).fileMapping)
		return
	}
	p.mappings.read = 0
	p.nextPaths()
}

func (p *Parser) fileMapping(b []byte) {
	m, o := &p.mappings, p.order
	if len(m.all) < maxKept {
		m.all = append(m.all, mapping{start: o.Uint64(b), end: o.Uint64(b[8:]), off: o.Uint64(b[16:]) * m.page, file: -1})
	}
	m.read++
	p.nextMapping()
}

func (p *Parser) nextPaths() {
	if left := p.note.end - p.pos; left > 0 && p.mappings.read < uint64(len(p.mappings.all)) {
		p.gather(int(min(left, scratch)), (*Parser).filePaths)
		return
	}
	p.mappings.finish(p.loads)
	p.passTo(p.note.end, (*Parser).nextNote)
}

// filePaths takes a piece of the paths.
func (p *Parser) filePaths(b []byte) {
	m := &p.mappings
	for len(b) > 0 && m.read < uint64(len(m.all)) {
		text, rest, ended := bytes.Cut(b, []byte{0})
		m.path = append(m.path, text[:min(len(text), maxPath-len(m.path))]...)
		b = rest
		if ended {
			m.name(&m.all[m.read], p.process.landmark)
			m.path = m.path[:0]
			m.read++
		}
	}
	p.nextPaths()
}

// landmark tells the mappings whose files are kept however many there are: that of the crash and that of the executable.
func (pr *process) landmark(m *mapping) bool {
	return m.contains(pr.regs.pc) || m.contains(pr.phdr) || m.contains(pr.entry)
}

func (m *mapping) contains(a uint64) bool { return m.start <= a && a < m.end }

// name gives the path that has been read to a mapping.
func (m *mappings) name(to *mapping, important func(*mapping) bool) {
	if i, ok := m.byPath[string(m.path)]; ok {
		to.file = i
		return
	}
	if (len(m.files) >= maxPaths || m.texts+len(m.path) > maxPathBytes) && !(important(to) && len(m.files) < maxPaths+16) {
		return
	}
	path := string(m.path)
	to.file = int32(len(m.files))
	m.files = append(m.files, file{path: path})
	m.byPath[path] = to.file
	m.texts += len(path)
}

// finish sorts mappings, and loads, and brings them together.
func (m *mappings) finish(loads []load) {
	m.byPath, m.path, m.sorted = nil, nil, true
	slices.SortStableFunc(m.all, func(a, b mapping) int { return cmp.Compare(a.start, b.start) })
	// The kernel orders segments by address, or by size with kernel.core_sort_vma.
	slices.SortStableFunc(loads, func(a, b load) int { return cmp.Compare(a.vaddr, b.vaddr) })
	known := make([]bool, len(m.files))
	for i := range m.all {
		at := &m.all[i]
		l := loadAt(loads, at.start)
		at.exec = l == nil || l.exec // gdb leaves out segments of which it writes nothing
		if at.file < 0 {
			continue
		}
		f := &m.files[at.file]
		if !known[at.file] {
			f.start, known[at.file] = at.start, true
		}
		f.code = f.code || at.exec
	}
}

// loadAt gives the segment that begins at an address, among loads in the order of addresses; nil where none does.
func loadAt(loads []load, a uint64) *load {
	i, ok := slices.BinarySearchFunc(loads, a, func(l load, a uint64) int { return cmp.Compare(l.vaddr, a) })
	if !ok {
		return nil
	}
	return &loads[i]
}

// at gives the mapping that contains an address; nil where none does.
func (m *mappings) at(a uint64) *mapping {
	if !m.sorted {
		return nil
	}
	i, ok := slices.BinarySearchFunc(m.all, a, func(m mapping, a uint64) int { return cmp.Compare(m.start, a) })
	if !ok {
		i--
	}
	if i < 0 || !m.all[i].contains(a) {
		return nil
	}
	return &m.all[i]
}

// code is at where the address may be one that is executed.
func (m *mappings) code(a uint64) *mapping {
	if at := m.at(a); at != nil && at.exec {
		return at
	}
	return nil
}

// fileAt gives the file of the mapping that contains an address; nil where that is not known.
func (m *mappings) fileAt(a uint64) *file {
	if at := m.at(a); at != nil && at.file >= 0 {
		return &m.files[at.file]
	}
	return nil
}
