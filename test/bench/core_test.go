// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"testing"

	"github.com/klauspost/compress/zstd"

	"example.io/coredump/pkg/corefile"
)

func TestTheCoreIsACoreAndCompressesAsOnesDo(t *testing.T) {
	const size = 16<<20 + 1
	var core bytes.Buffer
	if err := writeCore(&core, size, 1); err != nil {
		t.Fatal(err)
	}
	header, err := corefile.ReadHeader(bytes.NewReader(core.Bytes()))
	if err != nil || header.PromisedSize != size || core.Len() != size {
		t.Errorf("promised %d, is %d, want %d; %v", header.PromisedSize, core.Len(), size, err)
	}
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	ratio := float64(size) / float64(len(encoder.EncodeAll(core.Bytes(), nil)))
	t.Logf("compresses %.2f to 1", ratio)
	if ratio < 3.5 || ratio > 4.5 {
		t.Errorf("compresses %.2f to 1, want about 4", ratio)
	}
}
