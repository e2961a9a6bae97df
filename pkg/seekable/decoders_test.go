// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package seekable

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// decoders are programs that people have. Each decompresses its standard input.
var decoders = map[string]string{
	"zstd":    `zstd -dc`,
	"unzstd":  `unzstd -c`,
	"pzstd":   `pzstd -dc`,
	"bsdcat":  `bsdcat`,
	"python":  `/usr/bin/python3 -c 'import sys,zstandard; r=zstandard.ZstdDecompressor().stream_reader(sys.stdin.buffer,read_across_frames=True); sys.stdout.buffer.write(r.read())'`,
	"copying": `/usr/bin/python3 -c 'import sys,zstandard; zstandard.ZstdDecompressor().copy_stream(sys.stdin.buffer,sys.stdout.buffer)'`,
}

func TestRealDecodersReadIt(t *testing.T) {
	for name, script := range decoders {
		for _, size := range []int{0, 1, 1000, 300_000, 3 << 20} {
			t.Run(fmt.Sprint(name, "/", size), func(t *testing.T) {
				program := strings.Fields(script)[0]
				if _, err := exec.LookPath(program); err != nil {
					t.Skipf("%s is not installed", program)
				}
				if strings.Contains(script, "zstandard") && exec.Command(program, "-c", "import zstandard").Run() != nil {
					t.Skip("Python has no zstandard")
				}
				content := likeCore(size)
				cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
				cmd.Stdin = bytes.NewReader(compress(t, content, Options{FrameSize: 100_000}))
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				got, err := cmd.Output()
				if err != nil || !bytes.Equal(got, content) {
					t.Errorf("%d bytes, %v: %s", len(got), err, stderr.String())
				}
			})
		}
	}
}

// Standard readers of the library that everybody else uses in Go read it, too.
func TestStreamReaderReadsIt(t *testing.T) {
	for _, size := range []int{0, 1, 100_000} {
		content := likeCore(size)
		d, err := zstd.NewReader(bytes.NewReader(compress(t, content, Options{FrameSize: 1000})), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(d)
		d.Close()
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes: %d, %v", size, len(got), err)
		}
	}
}
