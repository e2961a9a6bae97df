// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package corefile

import (
	"cmp"
	"slices"
)

// firstPage is how much is taken of a mapped file, in bytes: with the usual coredump_filter the kernel writes no more than the first page.
const firstPage = 4096

// region is a piece of the memory that is taken as it passes: the first page of a file, or the stack.
type region struct {
	off   int64 // in the core
	size  int
	start uint64 // address
	file  int32  // whose first page it is; -1: the stack
}

// regions take pieces of memory as they pass, one after the other.
type regions struct {
	todo     []region // in the order in which they come, without overlap
	taken    []byte   // of the first of them
	mappings *mappings
	stack    stack
}

// stack is what has been taken of a stack, from the address start on.
type stack struct {
	start uint64
	bytes []byte
}

// plan says what is taken of the memory that begins at pos.
func (r *regions) plan(pos int64, loads []load, m *mappings, regs registers) {
	r.mappings = m
	if s, ok := stackRegion(loads, regs); ok {
		r.todo = append(r.todo, s)
	}
	planned := make([]bool, len(m.files))
	for _, at := range m.all {
		if at.file < 0 || at.off != 0 || planned[at.file] {
			continue
		}
		if l := loadAt(loads, at.start); l != nil && l.size >= identSize {
			planned[at.file] = true
			r.todo = append(r.todo, region{int64(l.off), int(min(l.size, firstPage)), at.start, at.file})
		}
	}
	slices.SortStableFunc(r.todo, func(a, b region) int { return cmp.Compare(a.off, b.off) })
	r.todo = slices.DeleteFunc(r.todo, func(g region) bool {
		if g.off < pos || g.off+int64(g.size) < g.off { // only what is forged lies across something else
			return true
		}
		pos = g.off + int64(g.size)
		return false
	})
}

// stackRegion is what the core has from the stack pointer on, or, where that points to nothing (a stack that ran over), from the frame pointer on.
func stackRegion(loads []load, regs registers) (region, bool) {
	for _, a := range []uint64{regs.sp, regs.fp &^ 7} {
		i, ok := slices.BinarySearchFunc(loads, a, func(l load, a uint64) int { return cmp.Compare(l.vaddr, a) })
		if !ok {
			i--
		}
		if i < 0 || a-loads[i].vaddr >= loads[i].size {
			continue
		}
		l := loads[i]
		into := a - l.vaddr
		return region{int64(l.off + into), int(min(l.size-into, stackWindow)), a, -1}, true
	}
	return region{}, false
}

// pass takes what is wanted of b, which is at the offset pos of the core.
func (r *regions) pass(pos int64, b []byte) {
	end := pos + int64(len(b))
	for len(r.todo) > 0 && r.todo[0].off < end {
		g := r.todo[0]
		if r.taken == nil {
			r.taken = make([]byte, 0, g.size)
		}
		from, to := g.off+int64(len(r.taken)), min(g.off+int64(g.size), end)
		r.taken = append(r.taken, b[from-pos:to-pos]...)
		if g.file < 0 {
			r.stack = stack{g.start, r.taken}
		}
		if len(r.taken) < g.size {
			return
		}
		r.todo = r.todo[1:]
		if g.file < 0 {
			r.taken = nil // it is the stack's now
			continue
		}
		f := &r.mappings.files[g.file]
		f.elf, f.buildID = buildID(r.taken)
		r.taken = r.taken[:0]
	}
}

// word reads 8 bytes at an address.
func (s stack) word(a uint64) ([]byte, bool) {
	i := a - s.start
	if a < s.start || uint64(len(s.bytes)) < 8 || i > uint64(len(s.bytes))-8 {
		return nil, false
	}
	return s.bytes[i : i+8], true
}
