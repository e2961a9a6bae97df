// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package watching

import (
	"cmp"
	"context"
	"slices"
	"time"

	"example.io/coredump/pkg/registry/revision"
	"example.io/coredump/pkg/storage"
)

// snapshot is what a poll has seen, in about a hundred bytes a record beside its key. Not for concurrent use.
type snapshot struct {
	seen map[string]*seen // by the key of the record
	set  revision.Set
	poll uint64 // the number of the last one
}

type seen struct {
	etag     string
	modified int64 // in nanoseconds
	size     int64
	poll     uint64 // the last one that saw it
}

// difference is between two polls. It has the keys of records.
type difference struct {
	added, modified []storage.Listed
	deleted         []storage.Listed
}

func (d *difference) len() int { return len(d.added) + len(d.modified) + len(d.deleted) }

// bytes is how long the records are that are new.
func (d *difference) bytes() (n int64) {
	for _, l := range slices.Concat(d.added, d.modified) {
		n += l.Object.Size
	}
	return n
}

// compare lists the bucket. It does not change what the snapshot has until apply is called.
func (s *snapshot) compare(ctx context.Context, source Source, scope storage.Scope) (d difference, err error) {
	s.poll++
	for l, err := range source.Records(ctx, scope) {
		if err != nil {
			return d, err
		}
		switch was := s.seen[l.Object.Key]; {
		case was == nil:
			d.added = append(d.added, l)
		default:
			was.poll = s.poll
			if was.etag != l.Object.ETag {
				d.modified = append(d.modified, l)
			}
		}
	}
	for key, was := range s.seen {
		if was.poll != s.poll {
			d.deleted = append(d.deleted, was.listed(key))
		}
	}
	byTime := func(a, b storage.Listed) int {
		return cmp.Or(a.Object.LastModified.Compare(b.Object.LastModified), cmp.Compare(a.Object.Key, b.Object.Key))
	}
	slices.SortFunc(d.added, byTime)
	slices.SortFunc(d.modified, byTime)
	slices.SortFunc(d.deleted, byTime)
	return d, nil
}

// listed gives what the bucket said of the record.
func (s *seen) listed(key string) storage.Listed {
	e, _ := storage.ParseKey(key) // it was understood before
	return storage.Listed{Entry: e, Object: storage.Object{Key: key, Size: s.size, ETag: s.etag, LastModified: time.Unix(0, s.modified)}}
}

func (s *snapshot) apply(d difference) {
	for _, l := range slices.Concat(d.added, d.modified) {
		if s.seen[l.Object.Key] == nil {
			s.set.Add(l.Object.Key)
		}
		s.seen[l.Object.Key] = &seen{l.Object.ETag, l.Object.LastModified.UnixNano(), l.Object.Size, s.poll}
	}
	for _, l := range d.deleted {
		s.set.Remove(l.Object.Key)
		delete(s.seen, l.Object.Key)
	}
}

// newer gives the records written at t or later, the oldest first.
func (s *snapshot) newer(t time.Time) (newer []storage.Listed) {
	for key, was := range s.seen {
		if was.modified >= t.UnixNano() {
			newer = append(newer, was.listed(key))
		}
	}
	slices.SortFunc(newer, func(a, b storage.Listed) int {
		return cmp.Or(a.Object.LastModified.Compare(b.Object.LastModified), cmp.Compare(a.Object.Key, b.Object.Key))
	})
	return newer
}

const (
	// maxSince bounds how many records are taken away to find a fingerprint: each is a chance of one in a million to find a wrong one.
	maxSince = 256
	// setSlack is by how much a record that a list has not seen may be older than the list: the time it took, and the difference of the clocks of store and server.
	setSlack = time.Minute
)

// since gives the records that were added since the set had the fingerprint at t. Ok is false if that cannot be told: something was deleted, or
// it never was so.
func (s *snapshot) since(t time.Time, fingerprint revision.Fingerprint) (added []storage.Listed, ok bool) {
	newer := s.newer(t.Add(-setSlack))
	set := s.set
	for i := len(newer); ; i-- {
		if set.Fingerprint() == fingerprint {
			return newer[i:], true
		}
		if i == 0 || len(newer)-i == maxSince {
			return nil, false
		}
		set.Remove(newer[i-1].Object.Key)
	}
}
