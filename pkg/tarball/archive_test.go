// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package tarball

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func file(name string, content []byte) File {
	return File{Name: name, Size: int64(len(content)), ModTime: time.Unix(1760000000, 0), Open: opener(bytes.NewReader(content))}
}

func opener(r io.Reader) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(r), nil }
}

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// What goes in comes out, whatever the sizes are, and the length is the one that was announced.
func TestArchiveOfAnySizes(t *testing.T) {
	sizes := [][]int{{}, {0}, {1}, {511}, {512}, {513}, {0, 0, 0}, {1, 512, 1023, 1024, 1025, 0, 70000}}
	for range 50 {
		var s []int
		for range rand.IntN(6) {
			s = append(s, rand.IntN(3000))
		}
		sizes = append(sizes, s)
	}
	for _, s := range sizes {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			var files []File
			var contents [][]byte
			for i, n := range s {
				contents = append(contents, random(n))
				files = append(files, file(fmt.Sprintf("app/core-%d", i), contents[i]))
			}
			a, err := New(files)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(iotest.OneByteReader(a.Open(t.Context())))
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(data)) != a.Size() || len(data)%blockSize != 0 {
				t.Errorf("archive has %d bytes, announced were %d", len(data), a.Size())
			}
			tr := tar.NewReader(bytes.NewReader(data))
			for i, want := range contents {
				h, err := tr.Next()
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(tr)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("file %d: %d bytes, %v, want %d", i, len(got), err, len(want))
				}
				if h.Name != files[i].Name || h.Mode != 0o600 || h.Typeflag != tar.TypeReg || h.ModTime.Unix() != 1760000000 {
					t.Errorf("header is %+v", h)
				}
			}
			if _, err := tr.Next(); err != io.EOF {
				t.Errorf("after the last file: %v, want EOF", err)
			}
		})
	}
}

var errSource = errors.New("the source broke")

func TestContentThatIsNotWhatWasSaidEndsTheStreamWithAnError(t *testing.T) {
	for _, test := range []struct {
		name string
		size int64
		open func(context.Context) (io.ReadCloser, error)
		want error
	}{
		{"short", 2000, opener(bytes.NewReader(random(1999))), ErrSize},
		{"empty", 1, opener(strings.NewReader("")), ErrSize},
		{"long", 2000, opener(bytes.NewReader(random(2001))), ErrSize},
		{"long where nothing was announced", 0, opener(strings.NewReader("x")), ErrSize},
		{"broken in the middle", 2000, opener(io.MultiReader(bytes.NewReader(random(1000)), iotest.ErrReader(errSource))), errSource},
		{"refused at its end", 2000, opener(io.MultiReader(bytes.NewReader(random(2000)), iotest.ErrReader(errSource))), errSource},
		{"not to be opened", 2000, func(context.Context) (io.ReadCloser, error) { return nil, errSource }, errSource},
		{"not to be closed", 4, func(context.Context) (io.ReadCloser, error) {
			return &closer{Reader: strings.NewReader("core"), err: errSource}, nil
		}, errSource},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, err := New([]File{{Name: "app/core", Size: test.size, Open: test.open}, file("app/next", []byte("next"))})
			if err != nil {
				t.Fatal(err)
			}
			r := a.Open(t.Context())
			data, err := io.ReadAll(r)
			if !errors.Is(err, test.want) {
				t.Errorf("error is %v, want %v", err, test.want)
			}
			if int64(len(data)) > blockSize+test.size {
				t.Errorf("%d bytes came, more than what was before the failure", len(data))
			}
			if _, again := r.Read(make([]byte, 1)); again != err {
				t.Errorf("reading on gives %v, want the same error", again)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

type closer struct {
	io.Reader
	closed int
	err    error
}

func (c *closer) Close() error {
	c.closed++
	return c.err
}

func TestCloseInTheMiddleClosesWhatIsOpen(t *testing.T) {
	src := &closer{Reader: bytes.NewReader(random(2000))}
	a, err := New([]File{{Name: "app/core", Size: 2000, Open: func(context.Context) (io.ReadCloser, error) { return src, nil }}})
	if err != nil {
		t.Fatal(err)
	}
	r := a.Open(t.Context())
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	r.Close()
	r.Close()
	if src.closed != 1 {
		t.Errorf("source was closed %d times, want once", src.closed)
	}
	if _, err := r.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("reading after Close gives %v, want an error", err)
	}
}

func TestSizeThatCannotBe(t *testing.T) {
	if _, err := New([]File{{Name: "app/core", Size: -1}}); err == nil {
		t.Error("a negative size was accepted")
	}
}

// tools list and extract an archive with the programs that people have. $1 is the archive, extraction goes to the working directory.
var tools = map[string][2]string{
	"GNU tar": {`tar --version | grep -q GNU && tar -tvf "$1"`, `tar --warning=all -xf "$1"`},
	"bsdtar":  {`bsdtar -tvf "$1"`, `bsdtar -xf "$1"`},
	"busybox": {`busybox tar -tvf "$1"`, `busybox tar -xf "$1"`},
	"python": {`python3 -c 'import sys,tarfile
for m in tarfile.open(sys.argv[1]): print(m.name, m.size)' "$1"`,
		`python3 -c 'import sys,tarfile; tarfile.open(sys.argv[1]).extractall(".")' "$1"`},
}

func eachTool(t *testing.T, f func(t *testing.T, list, extract string)) {
	for name, script := range tools {
		t.Run(name, func(t *testing.T) {
			program := strings.Fields(script[1])[0]
			if _, err := exec.LookPath(program); err != nil {
				t.Skipf("%s is not installed", program)
			}
			f(t, script[0], script[1])
		})
	}
}

func run(t *testing.T, dir, script, arg string) string {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script, "sh", arg)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	return string(out)
}

func TestRealToolsExtract(t *testing.T) {
	long := "app/core-" + strings.Repeat("x", 150) + "-1760000000-1-6"
	contents := map[string][]byte{"app/core-server-1760000000-1-11": random(70_001), "app/core-server-1760000000-1-11.json": []byte("{}"), long: random(512)}
	var files []File
	for name, content := range contents {
		files = append(files, file(name, content))
	}
	archive := write(t, files)
	eachTool(t, func(t *testing.T, _, extract string) {
		dir := t.TempDir()
		if out := run(t, dir, extract, archive); out != "" {
			t.Errorf("extracting says %q", out)
		}
		for name, want := range contents {
			got, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
		}
	})
}

func write(t *testing.T, files []File) string {
	a, err := New(files)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(a.Open(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "archive.tar")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// The octal field of a header ends at 8 GiB. The archive here is a sparse file, so that nobody has to write it.
func TestRealToolsReadFilesOver8GiB(t *testing.T) {
	const huge = 8<<30 + 5
	a, err := New([]File{{Name: "app/huge", Size: huge, ModTime: time.Unix(1760000000, 0)}, file("app/after", []byte("after"))})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "archive.tar")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var segments []segment
	for i := range a.ends {
		of, err := a.item(i)
		if err != nil {
			t.Fatal(err)
		}
		segments = append(segments, of...)
	}
	for _, s := range segments {
		if s.open == nil {
			if _, err := f.Seek(s.size, io.SeekCurrent); err != nil {
				t.Fatal(err)
			}
			continue
		}
		r, _ := s.open(t.Context(), 0, s.size)
		if _, err := io.Copy(f, r); err != nil {
			t.Fatal(err)
		}
	}
	eachTool(t, func(t *testing.T, list, _ string) {
		out := run(t, t.TempDir(), list, name)
		if !strings.Contains(out, fmt.Sprint(int64(huge))) || !strings.Contains(out, "app/after") {
			t.Errorf("listing is\n%s", out)
		}
	})
}
