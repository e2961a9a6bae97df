// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import "testing"

// BenchmarkFile fetches, decompresses, checks and writes a core from a server on this machine. MB/s are those of the core.
func BenchmarkFile(b *testing.B) {
	content := likeCore(seeded(1), 512<<20)
	object := compress(b, content, 4<<20)
	d := record(content, object, true)
	b.Logf("compresses %.1f : 1", float64(len(content))/float64(len(object)))
	s := newServer(b, object)
	b.SetBytes(d.Size)
	for b.Loop() {
		dir := placeAt(b, b.TempDir())
		o := quick()
		o.Workers = 4
		if _, err := File(b.Context(), s.Object(), d, dir.root, o); err != nil {
			b.Fatal(err)
		}
	}
}
