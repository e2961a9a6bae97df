// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import "slices"

// span is the bytes from from on up to but without to.
type span struct{ from, to int64 }

func (s span) len() int64 { return s.to - s.from }

// spans are sorted, not empty, and neither overlap nor touch.
type spans []span

// add gives the spans with the bytes of s.
func (ss spans) add(s span) spans {
	if s.len() <= 0 {
		return ss
	}
	i, _ := slices.BinarySearchFunc(ss, s.from, func(e span, from int64) int { // the first that touches s or is behind it
		if e.to < from {
			return -1
		}
		return 1
	})
	j := i
	for ; j < len(ss) && ss[j].from <= s.to; j++ {
		s.from, s.to = min(s.from, ss[j].from), max(s.to, ss[j].to)
	}
	return slices.Replace(ss, i, j, s)
}

// remove gives the spans without the bytes of s.
func (ss spans) remove(s span) spans {
	if s.len() <= 0 {
		return ss
	}
	var left spans
	for _, e := range ss {
		if e.to <= s.from || e.from >= s.to {
			left = append(left, e)
			continue
		}
		if e.from < s.from {
			left = append(left, span{e.from, s.from})
		}
		if e.to > s.to {
			left = append(left, span{s.to, e.to})
		}
	}
	return left
}

// reach is how far the bytes from from on go; from where there are none.
func (ss spans) reach(from int64) int64 {
	for _, e := range ss {
		if e.from <= from && from < e.to {
			return e.to
		}
	}
	return from
}

// gap is the first piece of at most n bytes within s that is in none of the spans; empty where there is none.
func (ss spans) gap(s span, n int64) span {
	from := ss.reach(s.from)
	if from >= s.to {
		return span{s.to, s.to}
	}
	to := min(s.to, from+n)
	for _, e := range ss {
		if e.from > from {
			to = min(to, e.from)
			break
		}
	}
	return span{from, to}
}

// sum is the number of bytes.
func (ss spans) sum() (n int64) {
	for _, e := range ss {
		n += e.len()
	}
	return n
}
