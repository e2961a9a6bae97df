// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit/policy"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/storagetest"
)

// partly is a core that compresses in part, so that frames have different sizes.
func partly(n int) []byte {
	b := make([]byte, n)
	copy(b[n/3:n/2], random(n/2-n/3))
	return b
}

func codecNamed(name string) func(*v1alpha1.CoreDump) {
	return func(d *v1alpha1.CoreDump) { d.Status.Codec = name }
}

func TestDownloadsOfAKnownLengthCanBeHadInRanges(t *testing.T) {
	f := start(t)
	f.beside = contextOf(t, "line\n")
	core := partly(5<<20 + 123)
	z := f.put("shop", "web-0", "app", 1, core)
	plain := f.put("shop", "web-1", "app", 1, core, codecNamed(""))
	gz := f.put("shop", "web-2", "app", 1, partly(20<<20), codecNamed("gz"))
	f.put("shop", "web-0", "app", 2, core)
	path := api + "/namespaces/shop/coredumps/"
	for _, what := range []string{
		path + z.Name() + "/dump?format=tar.zst", path + z.Name() + "/dump?format=tar", path + z.Name() + "/dump?format=core", path + z.Name() + "/dump?format=core.zst",
		path + z.Name() + "/dump", path + plain.Name() + "/dump?format=core", path + plain.Name() + "/proxy?format=tar", path + gz.Name() + "/dump?format=tar.gz",
		api + "/namespaces/shop/coredumpendpoints/web-0/dump?format=tar.zst", api + "/namespaces/shop/coredumpendpoints/web-0/proxy?format=tar",
		api + "/namespaces/shop/coredumpendpoints/web-1/dump?format=core",
	} {
		code, h, whole := f.try("admin", "GET", what)
		etag := h.Get("ETag")
		if code != 200 || h.Get("Content-Length") != strconv.Itoa(len(whole)) || h.Get("Accept-Ranges") != "bytes" || len(etag) < 10 || etag[0] != '"' {
			t.Fatalf("%s: %d %v, %d bytes", what, code, h, len(whole))
		}
		if code, head, data := f.try("admin", "HEAD", what); code != 200 || len(data) != 0 || head.Get("ETag") != etag || head.Get("Content-Length") != h.Get("Content-Length") || head.Get("Accept-Ranges") != "bytes" {
			t.Errorf("HEAD %s: %d %v", what, code, head)
		}
		n := len(whole)
		for _, r := range [][2]int{{0, 1}, {0, n}, {n - 1, n}, {n / 3, n/3 + 100_000}, {1, n / 2}, {n - 600, n}} {
			code, h, got := f.try("admin", "GET", what, "Range", fmt.Sprintf("bytes=%d-%d", r[0], r[1]-1), "If-Match", etag)
			if code != 206 || !bytes.Equal(got, whole[r[0]:r[1]]) || h.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", r[0], r[1]-1, n) || h.Get("ETag") != etag {
				t.Errorf("%s %v: %d %v, %d bytes", what, r, code, h, len(got))
			}
		}
		if code, h, got := f.try("admin", "GET", what, "Range", "bytes=-100"); code != 206 || !bytes.Equal(got, whole[n-100:]) {
			t.Errorf("%s, the last 100: %d %v", what, code, h)
		}
		for _, test := range []struct {
			name   string
			header []string
			code   int
			bytes  int
		}{
			{"If-Range that fits", []string{"Range", "bytes=5-", "If-Range", etag}, 206, n - 5},
			{"If-Range of another", []string{"Range", "bytes=5-", "If-Range", `"other"`}, 200, n},
			{"If-None-Match", []string{"If-None-Match", etag}, 304, 0},
			{"If-None-Match of another", []string{"If-None-Match", `"other"`}, 200, n},
			{"two ranges", []string{"Range", "bytes=0-1,3-4"}, 200, n},
		} {
			if code, h, got := f.try("admin", "GET", what, test.header...); code != test.code || len(got) != test.bytes || h.Get("ETag") != etag {
				t.Errorf("%s, %s: %d, %d bytes", what, test.name, code, len(got))
			}
		}
		for code, header := range map[int][]string{412: {"If-Match", `"other"`}, 416: {"Range", fmt.Sprintf("bytes=%d-", n)}} {
			got, h, data := f.try("admin", "GET", what, header...)
			var s metav1.Status
			if err := json.Unmarshal(data, &s); err != nil || got != code || int(s.Code) != code || s.Message == "" {
				t.Errorf("%s, %v: %d %s", what, header, got, data)
			}
			if want := fmt.Sprintf("bytes */%d", n); code == 416 && h.Get("Content-Range") != want {
				t.Errorf("%s: Content-Range %q, want %q", what, h.Get("Content-Range"), want)
			}
		}
	}
}

// TestWhatIsCompressedOnTheWayHasNoLength: the same request may get other bytes the next time.
func TestWhatIsCompressedOnTheWayHasNoLength(t *testing.T) {
	f := start(t)
	k := f.put("shop", "web-0", "app", 1, partly(20<<20))
	path := api + "/namespaces/shop/coredumps/" + k.Name() + "/dump"
	code, h, data := f.try("admin", "GET", path, "Range", "bytes=5-")
	if code != 200 || h.Get("ETag") != "" || h.Get("Accept-Ranges") != "none" || h.Get("Content-Length") != "" || len(data) < 1000 {
		t.Errorf("%d %v", code, h)
	}
	if code, h, _ := f.try("admin", "HEAD", path); code != 200 || h.Get("ETag") != "" {
		t.Errorf("HEAD: %d %v", code, h)
	}
	if code, _, _ := f.try("admin", "GET", path, "If-Match", `"a"`); code != 412 {
		t.Errorf("If-Match: %d", code)
	}
}

func TestOneCoreAloneIsServedAsItIsAndAsItIsStored(t *testing.T) {
	f := start(t)
	core := partly(3 << 20)
	z := f.put("shop", "web-0", "app", 1, core)
	gz := f.put("shop", "web-1", "app", 1, core, codecNamed("gz"))
	f.put("shop", "web-2", "app", 1, core)
	f.put("shop", "web-2", "app", 2, core)
	path := api + "/namespaces/shop/coredumps/"
	code, h, got := f.try("admin", "GET", path+z.Name()+"/dump?format=core")
	if code != 200 || !bytes.Equal(got, core) || h.Get("Content-Type") != "application/octet-stream" || !strings.Contains(h.Get("Content-Disposition"), z.Name()+".core\"") {
		t.Errorf("core: %d %v, %d bytes", code, h, len(got))
	}
	code, h, got = f.try("admin", "GET", path+z.Name()+"/dump?format=core.zst")
	if code != 200 || h.Get("Content-Type") != "application/zstd" || !strings.Contains(h.Get("Content-Disposition"), z.Name()+".core.zst\"") {
		t.Errorf("core.zst: %d %v", code, h)
	}
	cmd := exec.CommandContext(t.Context(), "zstd", "-dc")
	cmd.Stdin = bytes.NewReader(got)
	if out, err := cmd.Output(); err != nil || !bytes.Equal(out, core) {
		t.Errorf("zstd: %v, %d bytes", err, len(out))
	}
	// Of a gzip body only the whole can be had.
	code, h, got = f.try("admin", "GET", path+gz.Name()+"/dump?format=core", "Range", "bytes=7-9")
	if code != 206 || !bytes.Equal(got, core[7:10]) { // small enough to be read from its start
		t.Errorf("a range of a small gzip body: %d %v", code, h)
	}
	f.refused("admin", path+gz.Name()+"/dump?format=core.zst", 400, "core.gz", "ask for format core")
	f.refused("admin", api+"/namespaces/shop/coredumpendpoints/web-2/dump?format=core", 400, "2 are asked for", "latest=1", "tar.zst")
	if code, _, got := f.try("admin", "GET", api+"/namespaces/shop/coredumpendpoints/web-2/dump?format=core&latest=1"); code != 200 || !bytes.Equal(got, core) {
		t.Errorf("the latest of a pod: %d, %d bytes", code, len(got))
	}
}

// TestArchivesOfDumpsThatAreStoredDifferentlyAreComplete: some can be spliced in one format, none in all.
func TestArchivesOfDumpsThatAreStoredDifferentlyAreComplete(t *testing.T) {
	f := start(t)
	f.beside = contextOf(t, "line\n")
	core := string(partly(18 << 20))
	for i, codec := range []string{"", "zst", "gz"} {
		f.put("shop", "web-0", "app", i+1, []byte(core), codecNamed(codec))
	}
	f.put("shop", "web-0", "app", 4, nil)
	for format, codec := range map[string]storage.Codec{"tar.gz": storage.CodecGzip, "tar.zst": storage.CodecZstd, "tar": storage.CodecNone} {
		files := f.tar("admin", api+"/namespaces/shop/coredumpendpoints/web-0/dump?format="+format, codec)
		for minutes := 1; minutes <= 3; minutes++ {
			if files[coreName(minutes)] != core {
				t.Errorf("%s: core %d has %d bytes", format, minutes, len(files[coreName(minutes)]))
			}
		}
		if empty, ok := files[coreName(4)]; !ok || empty != "" || len(files) != 4*5 {
			t.Errorf("%s: %d files", format, len(files))
		}
	}
}

// TestCurlResumesADownloadThatBrokeOff is what docs/api.md promises.
func TestCurlResumesADownloadThatBrokeOff(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl")
	}
	f := start(t)
	core := partly(5 << 20)
	k := f.put("shop", "web-0", "app", 1, core)
	for _, format := range []string{"tar.zst", "core", "core.zst", "tar"} {
		url := f.url + api + "/namespaces/shop/coredumps/" + k.Name() + "/dump?format=" + format
		_, _, whole := f.try("admin", "GET", strings.TrimPrefix(url, f.url))
		file := filepath.Join(t.TempDir(), format)
		if err := os.WriteFile(file, whole[:len(whole)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), curl, "-sSfk", "-H", "Authorization: Bearer admin", "-C", "-", "-o", file, url).CombinedOutput()
		got, readErr := os.ReadFile(file)
		if err != nil || readErr != nil || !bytes.Equal(got, whole) {
			t.Errorf("%s: %v %v %s, %d bytes of %d", format, err, readErr, out, len(got), len(whole))
		}
	}
}

func TestARangeReadsNoMoreOfTheStoreThanItNeeds(t *testing.T) {
	f := start(t)
	f.beside = contextOf(t, "line\n")
	k := f.put("shop", "web-0", "app", 1, partly(5<<20))
	path := api + "/namespaces/shop/coredumps/" + k.Name() + "/dump?format=tar.zst"
	count := func(key string, op storagetest.Op) (n int) {
		for _, c := range f.store.Calls() {
			if c.Key == key && c.Op == op {
				n++
			}
		}
		return n
	}
	for i := range 10 {
		if code, _, _ := f.try("admin", "GET", path, "Range", fmt.Sprintf("bytes=%d-%d", 2000+i*100, 2099+i*100)); code != 206 {
			t.Fatalf("%d", code)
		}
	}
	if n := count(k.Context(), storagetest.OpOpen); n != 1 {
		t.Errorf("the context was read %d times", n)
	}
	if opens, stats := count(k.Body(storage.CodecZstd), storagetest.OpOpen), count(k.Body(storage.CodecZstd), storagetest.OpStat); opens != 11 || stats != 1 {
		t.Errorf("the body was opened %d times and asked for %d times", opens, stats)
	}
}

// TestAContextThatWasGoodAndIsLostIsLeftOutTheNextTime: what is remembered must not keep a core from its owner.
func TestAContextThatWasGoodAndIsLostIsLeftOutTheNextTime(t *testing.T) {
	f := start(t)
	f.beside = contextOf(t, "line\n")
	k := f.put("shop", "web-0", "app", 1, []byte("core"))
	path := api + "/namespaces/shop/coredumps/" + k.Name() + "/dump?format=tar"
	f.tar("admin", path, storage.CodecNone)
	if _, err := f.store.Bucket.Delete(t.Context(), k.Context()); err != nil {
		t.Fatal(err)
	}
	if code, _, data := f.try("admin", "GET", path); code != 0 && code != 404 {
		t.Errorf("a context that is gone: %d, %d bytes", code, len(data))
	}
	if files := f.tar("admin", path, storage.CodecNone); files[coreName(1)] != "core" || contextFiles(files, 1)["context-error.txt"] == "" {
		t.Errorf("then: %q", files)
	}
}

// TestAnObjectThatIsNotWhatItsRecordSaysIsRefusedAndCounted: a Status where that can be known beforehand, an aborted stream where not. Never all of the bytes.
func TestAnObjectThatIsNotWhatItsRecordSaysIsRefusedAndCounted(t *testing.T) {
	f := start(t)
	core := partly(3 << 20)
	formats := []string{"tar.gz", "tar.zst", "tar", "core", "core.zst"}
	for name, test := range map[string]struct {
		change func([]byte) []byte
		status bool
	}{
		"cut":    {func(b []byte) []byte { return b[:len(b)-100] }, true},
		"longer": {func(b []byte) []byte { return append(b, 0) }, true},
		"a bit":  {func(b []byte) []byte { b[len(b)-1<<10] ^= 1; return b }, false},
	} {
		k := f.put("shop", "web-0", "app", len(name), core)
		_, _, stored := f.try("admin", "GET", api+"/namespaces/shop/coredumps/"+k.Name()+"/dump?format=core.zst")
		f.overwrite(k.Body(storage.CodecZstd), test.change)
		f.try("admin", "GET", api+"/namespaces/shop/coredumps/"+k.Name()+"/dump?format=core.zst", "Range", "bytes=0-1") // by which it is noticed that it is another
		for _, format := range formats {
			before := f.metric("coredump_apiserver_corrupt_objects_total")
			path := api + "/namespaces/shop/coredumps/" + k.Name() + "/dump?format=" + format
			if test.status {
				f.refused("admin", path, 500, k.Body(storage.CodecZstd))
			} else if code, h, data := f.try("admin", "GET", path); code != 0 && code != 500 {
				t.Errorf("%s, %s: %d %v, %d of %d bytes", name, format, code, h, len(data), len(stored))
			}
			f.eventually("the count of "+format, func() bool { return f.metric("coredump_apiserver_corrupt_objects_total") > before })
		}
	}
	k := f.put("shop", "web-9", "app", 1, core, func(d *v1alpha1.CoreDump) { d.Status.Size++ })
	for _, format := range formats {
		f.refused("admin", api+"/namespaces/shop/coredumps/"+k.Name()+"/dump?format="+format, 500, "seek table", k.Body(storage.CodecZstd))
	}
}

// TestRangesOfTwoObjectsAreNotMixed: an object that was replaced by another of the same length has another entity tag, in all formats.
func TestRangesOfTwoObjectsAreNotMixed(t *testing.T) {
	f := start(t)
	core := random(3 << 20)
	for i, codec := range []string{"", "zst", "gz"} {
		for _, format := range []string{"core", "tar", "core.zst", "tar.zst", "tar.gz"} {
			k := f.put("shop", "web-"+format, "app", 1+i, core, codecNamed(codec))
			path := api + "/namespaces/shop/coredumps/" + k.Name() + "/dump?format=" + format
			code, h, _ := f.try("admin", "GET", path, "Range", "bytes=0-1000")
			if code != 206 {
				continue // not in ranges
			}
			f.overwrite(k.Body(storage.Codec(codec)), func(b []byte) []byte { b[1<<20] ^= 1; return b })
			for _, want := range []int{503, 412} { // what is remembered of it is noticed to be old, and is forgotten
				if code, _, got := f.try("admin", "GET", path, "Range", "bytes=1001-2000000", "If-Match", h.Get("ETag")); code != want {
					t.Errorf("codec %q, %s: %d, %d bytes, want %d", codec, format, code, len(got), want)
				}
			}
		}
	}
}

// TestARecordThatLiesAboutAGzipBodyIsNoCleanArchive: a header that says less than what follows makes tar end well, with a core that was cut.
func TestARecordThatLiesAboutAGzipBodyIsNoCleanArchive(t *testing.T) {
	f := start(t)
	core := partly(20 << 20)
	path := func(k storage.Key, format string) string {
		return api + "/namespaces/shop/coredumps/" + k.Name() + "/dump?format=" + format
	}
	for i, lie := range []int64{-1024, 512} {
		k := f.put("shop", "web-0", "app", 1+i, core, codecNamed("gz"), func(d *v1alpha1.CoreDump) { d.Status.Size += lie })
		for _, format := range []string{"tar.gz", "tar.zst", "tar", "core"} {
			if code, h, got := f.try("admin", "GET", path(k, format)); code != 0 && code != 500 {
				t.Errorf("%+d, %s: %d %v, %d bytes", lie, format, code, h, len(got))
			}
		}
	}
	// Several members are no lie. The last says how long it is alone, so the archive is made anew.
	var members bytes.Buffer
	for range 2 {
		z := gzip.NewWriter(&members)
		_, _ = z.Write(core)
		_ = z.Close()
	}
	twice := append(core, core...)
	var rec v1alpha1.CoreDump
	f.get("admin", api+"/namespaces/shop/coredumps/"+f.put("shop", "web-1", "app", 1, twice, codecNamed("gz")).Name(), &rec)
	k := storage.Key{Namespace: "shop", Pod: "web-1", Container: "app", ID: storage.NewID(now, "two members")}
	if err := f.dumps.Commit(t.Context(), k, storage.Body{Reader: &members, Codec: storage.CodecGzip}, func(storage.Object) (*v1alpha1.CoreDump, error) { return &rec, nil }); err != nil {
		t.Fatal(err)
	}
	if files := f.tar("admin", path(k, "tar.gz"), storage.CodecGzip); len(files) != 2 || files[coreName(1)] != string(twice) {
		t.Errorf("two members: %d files, a core of %d bytes", len(files), len(files[coreName(1)]))
	}
}

func TestOneUserDoesNotTakeAllPlaces(t *testing.T) {
	f := start(t, func(c *Config) { c.MaxConcurrentDownloads, c.MaxDownloadsPerUser = 3, 2 })
	k := f.put("shop", "web-0", "app", 1, random(large))
	f.allow(reader("alice", "shop")...)
	path := api + "/namespaces/shop/coredumps/" + k.Name() + "/dump?format=core"
	first, second := f.begin(f.client, path), f.begin(f.client, path)
	defer second.Close()
	if _, h := f.refused("admin", path, 429, "2 of your downloads"); h.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if code, _, _ := f.try("admin", "GET", path, "Range", "bytes=0-1"); code != 429 {
		t.Errorf("a range counts as well: %d", code)
	}
	if code, _, got := f.try("alice", "GET", path, "Range", "bytes=0-1"); code != 206 || len(got) != 2 {
		t.Errorf("somebody else: %d", code)
	}
	first.Close()
	f.eventually("a free place", func() bool {
		code, _, _ := f.try("admin", "GET", path, "Range", "bytes=0-1")
		return code == 206
	})
}

// TestAStoreThatBreaksOffAndComesBackIsNotNoticed: the server goes on where it was.
func TestAStoreThatBreaksOffAndComesBackIsNotNoticed(t *testing.T) {
	f := start(t)
	core := random(4 << 20)
	k := f.put("shop", "web-0", "app", 1, core)
	var breaks atomic.Int32
	f.store.Cut = func(key string) (int64, error) {
		if key != k.Body(storage.CodecZstd) {
			return 0, nil
		}
		breaks.Add(1)
		return 1 << 20, &storage.Error{Op: "read", Key: key, Kind: storage.ErrUnavailable}
	}
	for _, format := range []string{"core", "core.zst", "tar.zst"} {
		before := breaks.Load()
		code, _, got := f.try("admin", "GET", api+"/namespaces/shop/coredumps/"+k.Name()+"/dump?format="+format)
		if code != 200 || format == "core" && !bytes.Equal(got, core) || len(got) < len(core) || breaks.Load() < before+3 {
			t.Errorf("%s: %d, %d bytes, %d breaks", format, code, len(got), breaks.Load()-before)
		}
	}
}

func TestAuditLogSaysWhichRangeLeft(t *testing.T) {
	log := &trail{}
	f := start(t, func(c *Config) {
		c.Generic.AuditBackend = log
		c.Generic.AuditPolicyRuleEvaluator = policy.NewPolicyRuleEvaluator(&auditinternal.Policy{Rules: []auditinternal.PolicyRule{{Level: auditinternal.LevelMetadata}}})
	})
	k := f.put("shop", "web-0", "app", 1, []byte("0123456789"))
	if code, _, got := f.try("admin", "GET", api+"/namespaces/shop/coredumps/"+k.Name()+"/dump?format=core", "Range", "bytes=2-4"); code != http.StatusPartialContent || string(got) != "234" {
		t.Fatalf("%d %q", code, got)
	}
	f.eventually("an event with the range", func() bool {
		log.mu.Lock()
		defer log.mu.Unlock()
		for _, e := range log.events {
			if e.Annotations["coredump.example.io/range"] == "2-4" && e.Annotations["coredump.example.io/format"] == "core" && e.User.Username == "admin" {
				return true
			}
		}
		return false
	})
}
