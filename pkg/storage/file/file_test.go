// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/storagetest"
)

func open(t *testing.T, dir string, opts Options) *Bucket {
	t.Helper()
	b, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBucket(t *testing.T) {
	for name, opts := range map[string]Options{"verify": {Verify: true}, "trust fsync": {}} {
		t.Run(name, func(t *testing.T) {
			storagetest.Run(t, func(t *testing.T) storage.Bucket { return open(t, t.TempDir(), opts) })
		})
	}
}

func TestNothingOutsideOfTheDirectoryIsTouched(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "secret")
	check(t, os.WriteFile(secret, []byte("secret"), 0o600))
	check(t, os.Symlink(outside, filepath.Join(dir, "dir")))
	check(t, os.Symlink(secret, filepath.Join(dir, "file")))
	check(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "b\nc"), nil, 0o600))
	b := open(t, dir, Options{})

	for _, key := range []string{"dir/secret", "file", "fifo"} {
		if _, err := b.Stat(t.Context(), key); err == nil {
			t.Errorf("stat of %s succeeded", key)
		}
		if _, err := b.Open(t.Context(), key, "", 0, -1); err == nil {
			t.Errorf("open of %s succeeded", key)
		}
		_, _ = b.Delete(t.Context(), key)
	}
	if _, err := b.Put(t.Context(), "dir/new", strings.NewReader("x"), storage.PutOptions{}); err == nil {
		t.Error("put through a symlink succeeded")
	}
	for o, err := range b.List(t.Context(), "", "") {
		t.Errorf("listed %v, %v, want nothing", o, err)
	}
	for d, err := range b.ListDirs(t.Context(), "", "") {
		t.Errorf("listed directory %v, %v, want nothing", d, err)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 1 {
		t.Errorf("outside there are now %v, %v", left, err)
	}
	for _, name := range []string{"dir", "file", "fifo"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Errorf("what is no object has been deleted: %v", err)
		}
	}
}

func TestDirectoriesOfTheFileSystemItselfAreIgnored(t *testing.T) {
	dir := t.TempDir()
	for name := range foreign {
		check(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		check(t, os.WriteFile(filepath.Join(dir, name, "x"), nil, 0o600))
	}
	b := open(t, dir, Options{})
	for o, err := range b.List(t.Context(), "", "") {
		t.Errorf("listed %v, %v, want nothing", o, err)
	}
	_, err := b.Put(t.Context(), uploadsDir+"/x", strings.NewReader("x"), storage.PutOptions{})
	storagetest.IsError(t, err, storage.ErrInvalid, uploadsDir+"/x")
}

func TestAccessIsThatOfTheDirectoryWithoutOthers(t *testing.T) {
	for root, want := range map[fs.FileMode][2]fs.FileMode{
		0o755:                     {0o750, 0o640},
		0o777:                     {0o770, 0o660},
		0o700:                     {0o700, 0o600},
		0o770 | fs.ModeSetgid:     {0o770 | fs.ModeSetgid, 0o660},
		0o500 /* not even ours*/ : {0o700, 0o600},
	} {
		dir := t.TempDir()
		check(t, os.Chmod(dir, root))
		b := open(t, dir, Options{})
		if _, err := b.Put(t.Context(), "ns/key", strings.NewReader("x"), storage.PutOptions{}); err != nil {
			if os.Geteuid() != 0 && root == 0o500 {
				continue
			}
			t.Fatal(err)
		}
		for i, name := range []string{"ns", "ns/key"} {
			info, err := os.Stat(filepath.Join(dir, name))
			check(t, err)
			if got := info.Mode() &^ fs.ModeDir; got != want[i] {
				t.Errorf("in a directory of mode %v, %s has mode %v, want %v", root, name, got, want[i])
			}
		}
	}
}

func TestWhatIsReadBackIsCompared(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Options{Verify: true})
	_, err := b.Put(t.Context(), "ns/key", io.MultiReader(strings.NewReader("hello"), atEOF(func() {
		files, _ := filepath.Glob(filepath.Join(dir, uploadsDir, "ns/key/*"))
		check(t, os.WriteFile(files[0], []byte("hellO"), 0))
	})), storage.PutOptions{})
	storagetest.IsError(t, err, storage.ErrCorrupt, "ns/key")
	if left, _ := os.ReadDir(filepath.Join(dir, uploadsDir)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestWhatAKilledProcessLeavesIsAnUploadAndNoObject(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, uploadsDir, "ns/pod/c/x.core", "SOMEID")
	check(t, os.MkdirAll(filepath.Dir(left), 0o700))
	check(t, os.WriteFile(left, []byte("half"), 0o600))
	b := open(t, dir, Options{})
	for o, err := range b.List(t.Context(), "", "") {
		t.Errorf("listed %v, %v, want nothing", o, err)
	}
	n := 0
	for u, err := range b.Uploads(t.Context()) {
		check(t, err)
		if u.Key != "ns/pod/c/x.core" || u.ID != "SOMEID" {
			t.Errorf("got %+v", u)
		}
		check(t, b.AbortUpload(t.Context(), u))
		n++
	}
	if _, err := os.Stat(filepath.Join(dir, uploadsDir, "ns")); n != 1 || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%d uploads, then %v; want 1, and no directory", n, err)
	}
	for _, id := range []string{"", "..", "../y", "/"} {
		if err := b.AbortUpload(t.Context(), storage.Upload{Key: "ns/pod", ID: id}); !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("id %q: got %v, want %v", id, err, storage.ErrInvalid)
		}
	}
}

func TestAKeyBelowAKeyIsRefused(t *testing.T) {
	b := open(t, t.TempDir(), Options{})
	for _, key := range []string{"a", "d/e"} {
		_, err := b.Put(t.Context(), key, strings.NewReader("x"), storage.PutOptions{})
		check(t, err)
	}
	for _, key := range []string{"a/b", "a/b/c", "d"} {
		for _, absent := range []bool{false, true} {
			_, err := b.Put(t.Context(), key, strings.NewReader("x"), storage.PutOptions{IfAbsent: absent})
			storagetest.IsError(t, err, storage.ErrInvalid, key)
		}
	}
}

func TestSeveralProcessesShareTheDirectory(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 4 {
		b := open(t, dir, Options{}) // nothing is shared but the directory
		wg.Go(func() {
			for range 50 {
				key := "ns/pod/container/" + string(rune('a'+i))
				if _, err := b.Put(t.Context(), key, strings.NewReader("x"), storage.PutOptions{IfAbsent: true}); err != nil {
					t.Error(err)
				}
				if _, err := b.Delete(t.Context(), key); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	left, err := os.ReadDir(dir)
	check(t, err)
	if len(left) != 1 || left[0].Name() != uploadsDir {
		t.Errorf("left: %v, want %s alone", left, uploadsDir)
	}
}

func TestAMissingDirectoryIsNotFound(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	_, err := Open(dir, Options{})
	storagetest.IsError(t, err, storage.ErrNotFound, dir)

	check(t, os.Mkdir(dir, 0o700))
	b := open(t, dir, Options{})
	check(t, os.Remove(dir))
	if err := b.Ping(t.Context()); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("got %v, want %v", err, storage.ErrNotFound)
	}
}

type atEOF func()

func (f atEOF) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
