// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package tarball

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// splicedTools extract a compressed archive with the programs that people have. $1 is the archive, extraction goes to the working directory.
var splicedTools = map[Encoding]map[string]string{
	Zstd: {
		"GNU tar":          `tar --version | grep -q GNU && tar --zstd -xf "$1"`,
		"GNU tar by name":  `tar -xaf "$1"`,
		"bsdtar":           `bsdtar -xf "$1"`,
		"zstd and busybox": `zstd -dc "$1" | busybox tar -xf -`,
		"unzstd and tar":   `unzstd -c "$1" | tar -xf -`,
		"python": `/usr/bin/python3 -c 'import sys,tarfile,zstandard
r=zstandard.ZstdDecompressor().stream_reader(open(sys.argv[1],"rb"),read_across_frames=True)
tarfile.open(fileobj=r,mode="r|").extractall(".")' "$1"`,
	},
	Gzip: {
		"GNU tar":        `tar --version | grep -q GNU && tar -zxf "$1"`,
		"bsdtar":         `bsdtar -xf "$1"`,
		"busybox":        `busybox tar -zxf "$1"`,
		"gunzip and tar": `gunzip -c <"$1" | tar -xf -`,
		"busybox gunzip": `busybox gunzip -c "$1" | tar -xf -`,
		"python":         `/usr/bin/python3 -c 'import sys,tarfile; tarfile.open(sys.argv[1]).extractall(".")' "$1"`,
	},
}

func eachSplicedTool(t *testing.T, e Encoding, f func(t *testing.T, script string)) {
	for name, script := range splicedTools[e] {
		t.Run(name, func(t *testing.T) {
			for _, program := range []string{strings.Fields(script)[0], "busybox", "tar"} {
				if !strings.Contains(script, program) {
					continue
				}
				if _, err := exec.LookPath(program); err != nil {
					t.Skipf("%s is not installed", program)
				}
			}
			if strings.Contains(script, "zstandard") && exec.Command("/usr/bin/python3", "-c", "import zstandard").Run() != nil {
				t.Skip("Python has no zstandard")
			}
			f(t, script)
		})
	}
}

var suffixes = map[Encoding]string{Zstd: "archive.tar.zst", Gzip: "archive.tar.gz"}

func writeSpliced(t *testing.T, files []File, e Encoding) string {
	a, err := Splice(files, e)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), suffixes[e])
	if err := os.WriteFile(name, readAll(t, a), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// Seek tables are in the middle of such a stream; 0-byte cores are nothing but one. Hundreds of dumps are thousands of frames.
func TestRealToolsExtractSplicedArchives(t *testing.T) {
	for _, e := range []Encoding{Zstd, Gzip} {
		t.Run(suffixes[e], func(t *testing.T) {
			files := []File{stored(t, "app/empty", nil, e), stored(t, "app/large", append(random(3_000_000), make([]byte, 3_000_000)...), e)}
			for i := range 300 {
				name := fmt.Sprintf("app/core-%d", i)
				files = append(files, stored(t, name, random(rand.IntN(3000)), e), Bytes(name+".json", at, []byte("{}")))
			}
			archive := writeSpliced(t, files, e)
			eachSplicedTool(t, e, func(t *testing.T, script string) {
				dir := t.TempDir()
				if out := run(t, dir, script, archive); out != "" {
					t.Errorf("extracting says %q", out)
				}
				for _, f := range files {
					r, err := f.Open(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					want, _ := io.ReadAll(r)
					got, err := os.ReadFile(filepath.Join(dir, f.Name))
					if err != nil || !bytes.Equal(got, want) {
						t.Fatalf("%s: %d bytes, %v, want %d", f.Name, len(got), err, len(want))
					}
				}
			})
		})
	}
}

// A member list of a spliced archive with a file of more than 8 GiB, for which the tool has to decompress it all.
func TestRealToolsReadSplicedFilesOver8GiB(t *testing.T) {
	if testing.Short() {
		t.Skip("decompresses 8 GiB with each tool")
	}
	const piece = 128 << 20
	core := stored(t, "app/huge", make([]byte, piece), Zstd).Stored
	r, err := core.OpenRange(t.Context(), 0, core.Size)
	if err != nil {
		t.Fatal(err)
	}
	one, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.Repeat(one, 8<<30/piece+1)
	huge := File{Name: "app/huge", Size: 8<<30 + piece, ModTime: at, Stored: &Stored{Encoding: Zstd, Size: int64(len(all)), OpenRange: ranged(all)}}
	archive := writeSpliced(t, []File{huge, Bytes("app/after", at, []byte("after"))}, Zstd)
	for _, script := range []string{`tar --zstd -tvf "$1"`, `bsdtar -tvf "$1"`} {
		t.Run(script, func(t *testing.T) {
			for _, program := range []string{strings.Fields(script)[0], "zstd"} {
				if _, err := exec.LookPath(program); err != nil {
					t.Skipf("%s is not installed", program)
				}
			}
			out := run(t, t.TempDir(), script, archive)
			if !strings.Contains(out, fmt.Sprint(8<<30+piece)) || !strings.Contains(out, "app/after") {
				t.Errorf("listing is\n%s", out)
			}
		})
	}
}
