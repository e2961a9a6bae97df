// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"context"
	"strings"
	"time"

	"example.io/coredump/pkg/storage"
)

// Dump is what the bucket holds under one key: a record, its body and perhaps a context, or what is left of them. There may be a million of
// them in memory, so it is small: the names are shared between the dumps of a container.
type Dump struct {
	storage.Key
	// Crashed is the time in the key.
	Crashed time.Time
	// Stored is when the record was written or, without one, the last of the others; by the store's clock.
	Stored time.Time
	// Bytes is the size of all that is stored under the key.
	Bytes int64
	// Origin says which namespace and cluster the dump came from; nil where its record has not been read. Dumps of
	// the same origin share it.
	Origin *Origin

	record  bool
	context bool
	bodies  [len(codecs)]bool
}

// Origin is what a record says of where a dump comes from.
type Origin struct {
	// NamespaceUID is empty where it could not be learnt.
	NamespaceUID string
	Cluster      string
}

var codecs = [...]storage.Codec{storage.CodecNone, storage.CodecZstd, storage.CodecGzip}

// add takes in one object of the dump.
func (d *Dump) add(e storage.Entry, o storage.Object) {
	d.Bytes += o.Size
	if e.IsRecord {
		d.Stored = o.LastModified
		d.record = true
		return
	}
	if !d.record && o.LastModified.After(d.Stored) {
		d.Stored = o.LastModified
	}
	if e.IsContext {
		d.context = true
		return
	}
	for i, c := range codecs {
		if c == e.Codec {
			d.bodies[i] = true
		}
	}
}

func (d *Dump) hasBody() bool { return d.bodies != [len(codecs)]bool{} }

// Complete tells whether there is both a record and a body. A core is served without its context too.
func (d *Dump) Complete() bool { return d.record && d.hasBody() }

// At is the time that rules go by, see the package's comment.
func (d *Dump) At() time.Time {
	if d.Complete() && d.Crashed.Before(d.Stored) {
		return d.Crashed
	}
	return d.Stored
}

// Entries are the objects of the dump, the record first.
func (d *Dump) Entries() []storage.Entry {
	var entries []storage.Entry
	if d.record {
		entries = append(entries, storage.Entry{Key: d.Key, IsRecord: true})
	}
	for i, c := range codecs {
		if d.bodies[i] {
			entries = append(entries, storage.Entry{Key: d.Key, Codec: c})
		}
	}
	if d.context {
		entries = append(entries, storage.Entry{Key: d.Key, IsContext: true})
	}
	return entries
}

// Inventory is what is in a bucket.
type Inventory struct {
	// Dumps, and what is left of dumps.
	Dumps []*Dump
	// Uploads are the unfinished uploads of keys of the layout.
	Uploads []storage.Upload
	// Foreign counts the objects outside of the layout. They are somebody else's.
	Foreign Count
}

// Count is a number of things and their bytes.
type Count struct {
	N     int
	Bytes int64
}

func (c *Count) add(bytes int64) {
	c.N++
	c.Bytes += bytes
}

// Scan lists the dumps of the bucket. It reads no record.
func Scan(ctx context.Context, b storage.Bucket) (*Inventory, error) {
	inv := &Inventory{}
	for obj, err := range b.List(ctx, "", "") {
		if err != nil {
			return nil, err
		}
		e, ok := storage.ParseKey(obj.Key)
		if !ok {
			inv.Foreign.add(obj.Size)
			continue
		}
		inv.at(e.Key).add(e, obj)
	}
	return inv, nil
}

// at gives the dump of the key. Keys come in their order, so all objects of a dump follow each other, and all dumps of a container.
func (inv *Inventory) at(k storage.Key) *Dump {
	var last storage.Key
	if n := len(inv.Dumps); n > 0 {
		last = inv.Dumps[n-1].Key
	}
	if k != last {
		// What was parsed points into the whole key: copy what is new, share the rest.
		inv.Dumps = append(inv.Dumps, &Dump{Key: storage.Key{
			Namespace: share(k.Namespace, last.Namespace),
			Pod:       share(k.Pod, last.Pod),
			Container: share(k.Container, last.Container),
			ID:        strings.Clone(k.ID),
		}, Crashed: k.Time()})
	}
	return inv.Dumps[len(inv.Dumps)-1]
}

func share(s, last string) string {
	if s == last {
		return last
	}
	return strings.Clone(s)
}

// ScanUploads adds the unfinished uploads to the inventory.
func (inv *Inventory) ScanUploads(ctx context.Context, b storage.Bucket) error {
	for u, err := range b.Uploads(ctx) {
		if err != nil {
			return err
		}
		if _, ok := storage.ParseKey(u.Key); ok {
			inv.Uploads = append(inv.Uploads, u)
		}
	}
	return nil
}
