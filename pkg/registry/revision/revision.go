// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package revision knows what resource versions mean. Nobody counts the changes of a bucket, and any number of servers look at it, so a resource version is a time, in
// nanoseconds since 1970: that of an object says when the store wrote its record, that of a list says when the list began.
//
// A time does not tell what a list has seen, though, and from a time alone a server that did not look at the bucket then cannot know what was deleted
// since. So the last 20 bits of a list's are not time (about a millisecond of it is lost) but a fingerprint of the set of records it has seen. Whoever looks
// at the bucket later takes the newest records away one by one until the fingerprint is the same: those were added. If it never is, something was
// deleted, and the client has to list again.
package revision

import (
	"strconv"
	"time"
)

const (
	bits = 20
	mask = 1<<bits - 1
)

// Fingerprint is that of a set of records. 0 means that the set is not known.
type Fingerprint uint32

// Set is a set of records, of which only as much is kept as a fingerprint needs. The zero value is empty. Not for concurrent use.
type Set struct{ sum uint64 }

// Add adds the key of a record, which must not be in the set.
func (s *Set) Add(key string) { s.sum += hash(key) }

// Remove removes the key of a record, which must be in the set.
func (s *Set) Remove(key string) { s.sum -= hash(key) }

// Fingerprint gives that of the set. It depends neither on the order of what was done nor on who did it.
func (s *Set) Fingerprint() Fingerprint { return Fingerprint(mix(s.sum)%mask) + 1 }

func hash(key string) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the finalizer of splitmix64: sums of what it gives are as good as random.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// Of makes the resource version of a list that began at t. It is a positive decimal number, as clients want it.
func Of(t time.Time, seen Fingerprint) string {
	return strconv.FormatInt(max(t.UnixNano()&^mask|int64(seen), 1), 10)
}

// Parse understands a resource version that Of or an object has. The time is at most that of which it was made. The fingerprint of an object's, and of what somebody made up,
// is that of no set.
func Parse(s string) (t time.Time, seen Fingerprint, ok bool) {
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v <= 0 || strconv.FormatInt(v, 10) != s {
		return time.Time{}, 0, false
	}
	return time.Unix(0, v&^mask), Fingerprint(v & mask), true
}
