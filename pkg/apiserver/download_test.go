// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/storagetest"
)

// tar downloads an archive, unpacks it, and gives its files.
func (f *fixture) tar(who, path string, codec storage.Codec, header ...string) map[string]string {
	f.t.Helper()
	code, _, data := f.try(who, "GET", path, header...)
	if code != http.StatusOK {
		f.t.Fatalf("GET %s as %s: %d %s", path, who, code, data)
	}
	plain, err := codec.NewReader(bytes.NewReader(data))
	if err != nil {
		f.t.Fatalf("GET %s: %v", path, err)
	}
	defer plain.Close()
	files := map[string]string{}
	tr := tar.NewReader(plain)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			f.t.Fatalf("GET %s: %v", path, err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			f.t.Fatalf("GET %s: %v", path, err)
		}
		files[h.Name] = string(content)
	}
}

func TestDownloadInEveryFormat(t *testing.T) {
	f := start(t)
	core := strings.Repeat("core ", 100_000)
	k := f.put("shop", "web-0", "app", 1, []byte(core))
	name := fmt.Sprintf("app/core-server-%d-1-11", now.Unix()-60)
	for _, resource := range []string{"/coredumps/" + k.Name(), "/coredumpendpoints/web-0"} {
		for _, sub := range []string{"/dump", "/proxy"} {
			path := api + "/namespaces/shop" + resource + sub
			for _, test := range []struct {
				query, accept   string
				codec           storage.Codec
				mediaType, file string
			}{
				{"", "", storage.CodecGzip, "application/gzip", ".tar.gz"},
				{"", "application/json, */*", storage.CodecGzip, "application/gzip", ".tar.gz"},
				{"?timeout=5s", "nonsense;;q=x", storage.CodecGzip, "application/gzip", ".tar.gz"},
				{"?format=tar.gz", "application/zstd", storage.CodecGzip, "application/gzip", ".tar.gz"},
				{"?format=tar.zst", "", storage.CodecZstd, "application/zstd", ".tar.zst"},
				{"", "application/zstd", storage.CodecZstd, "application/zstd", ".tar.zst"},
				{"", "application/gzip;q=0.5, application/zstd", storage.CodecZstd, "application/zstd", ".tar.zst"},
				{"?format=tar", "", storage.CodecNone, "application/x-tar", ".tar"},
				{"", "application/x-tar, */*;q=0.1", storage.CodecNone, "application/x-tar", ".tar"},
			} {
				files := f.tar("admin", path+test.query, test.codec, "Accept", test.accept)
				if len(files) != 2 || files[name] != core {
					t.Errorf("%s%s: has %v", path, test.query, slices.Collect(maps.Keys(files)))
				}
				var rec v1alpha1.CoreDump
				if err := json.Unmarshal([]byte(files[name+".json"]), &rec); err != nil || rec.Name != k.Name() || rec.Kind != "CoreDump" {
					t.Errorf("%s%s: record is %q", path, test.query, files[name+".json"])
				}
				for _, method := range []string{"GET", "HEAD"} {
					code, h, data := f.try("admin", method, path+test.query, "Accept", test.accept)
					object := strings.Split(resource, "/")[2]
					for header, want := range map[string]string{
						"Content-Type": test.mediaType, "Content-Disposition": `attachment; filename="` + object + test.file + `"`,
						"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Content-Encoding": "",
					} {
						if h.Get(header) != want {
							t.Errorf("%s %s%s: %s is %q, want %q", method, path, test.query, header, h.Get(header), want)
						}
					}
					if length := h.Get("Content-Length"); test.codec == storage.CodecNone && (length == "" || method == "GET" && length != strconv.Itoa(len(data))) {
						t.Errorf("%s %s%s: Content-Length is %q", method, path, test.query, length)
					}
					if code != 200 || method == "HEAD" && len(data) != 0 {
						t.Errorf("%s %s%s: %d with %d bytes", method, path, test.query, code, len(data))
					}
				}
			}
		}
	}
}

// The way that is promised to users.
func TestRealTarReadsADownload(t *testing.T) {
	f := start(t)
	core := strings.Repeat("core ", 100_000)
	f.put("shop", "web-0", "app", 1, []byte(core))
	for format, flag := range map[string]string{"tar.gz": "-z", "tar.zst": "--zstd", "tar": "-v"} {
		code, _, data := f.try("admin", "GET", api+"/namespaces/shop/coredumpendpoints/web-0/dump?format="+format)
		cmd := exec.CommandContext(t.Context(), "tar", flag, "-x", "-O", "-f", "-", "--wildcards", "app/core-*-11")
		cmd.Stdin = bytes.NewReader(data)
		out, err := cmd.Output()
		if code != 200 || err != nil || string(out) != core {
			t.Errorf("%s: %d, tar ends with %v and %d bytes", format, code, err, len(out))
		}
	}
}

func TestEndpointParametersSelect(t *testing.T) {
	f := start(t)
	uid := func(uid string) func(*v1alpha1.CoreDump) {
		return func(d *v1alpha1.CoreDump) { d.Spec.PodUID = uid }
	}
	f.put("shop", "web-0", "app", 50, []byte("a50"), uid("first"))
	f.put("shop", "web-0", "app", 40, []byte("a40"), uid("second"))
	f.put("shop", "web-0", "app", 30, []byte("a30"), uid("second"))
	f.put("shop", "web-0", "sidecar", 45, []byte("s45"), uid("first"))
	f.put("shop", "web-0", "sidecar", 20, []byte("s20"), uid("second"))
	path := api + "/namespaces/shop/coredumpendpoints/web-0/dump"
	for query, want := range map[string]string{
		"":                                   "a30 a40 a50 s20 s45",
		"container=app":                      "a30 a40 a50",
		"uid=first":                          "a50 s45",
		"uid=first&container=app":            "a50",
		"latest=1":                           "s20",
		"latest=3":                           "a30 a40 s20",
		"latest=100":                         "a30 a40 a50 s20 s45",
		"container=app&latest=1":             "a30",
		"since=40m":                          "a30 a40 s20",
		"since=2026-07-01T11:30:00Z":         "a30 s20",
		"since=2026-07-01T13:30:00%2B02:00":  "a30 s20",
		"since=24h&latest=1&container=app":   "a30",
		"uid=second&container=app&since=35m": "a30",
	} {
		var got []string
		for name, content := range f.tar("admin", path+"?format=tar&"+query, "") {
			if !strings.HasSuffix(name, ".json") {
				got = append(got, content)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", query, got, want)
		}
	}
}

// Two pods of one name can crash in the same second with the same pid.
func TestNamesInAnArchiveAreDifferent(t *testing.T) {
	f := start(t)
	for _, uid := range []string{"first", "second"} {
		f.put("shop", "web-0", "app", 7, []byte(uid), func(d *v1alpha1.CoreDump) { d.Spec.PodUID = uid })
	}
	if files := f.tar("admin", api+"/namespaces/shop/coredumpendpoints/web-0/dump?format=tar", ""); len(files) != 4 {
		t.Errorf("archive has %v", files)
	}
}

func TestDownloadsThatAreRefused(t *testing.T) {
	f := start(t)
	k := f.put("shop", "web-0", "app", 60, []byte("core"))
	f.put("shop", "web-0", "sidecar", 90, []byte("core"), func(d *v1alpha1.CoreDump) { d.Spec.PodUID = "other\x1b[31m" })
	before := len(f.store.Calls())
	for _, sub := range []string{"/dump", "/proxy"} {
		pod, one := api+"/namespaces/shop/coredumpendpoints/web-0"+sub, api+"/namespaces/shop/coredumps/"+k.Name()+sub
		for _, test := range []struct {
			path  string
			code  int
			parts []string
		}{
			{pod + "?format=zip", 400, []string{"format", `"zip"`, "tar.gz", "tar.zst", "tar"}},
			{pod + "?format=", 400, []string{"format", "tar.gz"}},
			{pod + "?colour=red", 400, []string{`"colour"`, "container", "format", "latest", "since", "uid"}},
			{pod + "?container=app&container=sidecar", 400, []string{"container", "2 times"}},
			{pod + "?container=App", 400, []string{"container", `"App"`, "DNS label"}},
			{pod + "?container=..%2F..", 400, []string{"container"}},
			{pod + "?uid=", 400, []string{"uid"}},
			{pod + "?uid=%1b", 400, []string{"uid", `"\x1b"`}},
			{pod + "?since=yesterday", 400, []string{"since", "yesterday", "24h", "RFC 3339"}},
			{pod + "?since=-1h", 400, []string{"since"}},
			{pod + "?latest=0", 400, []string{"latest", "from 1"}},
			{pod + "?latest=many", 400, []string{"latest", "many"}},
			{pod + "?latest=99999999999999999999", 400, []string{"latest"}},
			{pod + "?container=%zz", 400, []string{"query"}},
			{pod + "?container=app;uid=x", 400, []string{"query"}},
			{one + "?container=app", 400, []string{`"container"`, "allowed are format"}},
			{one + "?latest=1", 400, []string{`"latest"`}},
		} {
			f.refused("admin", test.path, test.code, test.parts...)
		}
	}
	if calls := f.store.Calls()[before:]; len(calls) != 0 {
		t.Errorf("requests that cannot be right reach the store: %v", calls)
	}
	pod := api + "/namespaces/shop/coredumpendpoints/web-0/dump"
	f.refused("admin", pod+"?container=ap", 404, `"ap"`, "app, sidecar")
	if s, _ := f.refused("admin", pod+"?uid=1234", 404, "1234", "web-0-uid, other"); strings.Contains(s.Message, "\x1b") {
		t.Errorf("the message can do something to a terminal: %q", s.Message)
	}
	f.refused("admin", pod+"?uid=1234&container=app", 404, "of: web-0-uid")
	f.refused("admin", pod+"?since=5m", 404, "2026-07-01T11:55:00Z", "newest", "2026-07-01T11:00:00Z")
	s, _ := f.refused("admin", api+"/namespaces/shop/coredumpendpoints/web-1/dump", 404, `coredumpendpoints.coredump.example.io "web-1" not found`)
	if s.Reason != metav1.StatusReasonNotFound {
		t.Errorf("reason is %s", s.Reason)
	}
	f.refused("admin", api+"/namespaces/shop/coredumps/web-1.app.20260101t000000z-0123456789/dump", 404, "not found")
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		if code, _, _ := f.try("admin", method, pod); code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d, want 405", method, code)
		}
	}
	// A Status is a Status whatever the client accepts.
	if code, h, data := f.try("admin", "GET", pod+"?format=zip", "Accept", "application/zstd"); code != 400 || h.Get("Content-Type") != "application/json" {
		t.Errorf("%d %s %s", code, h.Get("Content-Type"), data)
	}
	if code, _, _ := f.try("admin", "HEAD", pod+"?container=ap"); code != 404 {
		t.Errorf("HEAD of an unknown container: %d", code)
	}
}

// Names that are none never reach the store, and never another namespace.
func TestNamesThatAreNone(t *testing.T) {
	f := start(t)
	f.put("bank", "web-0", "app", 1, []byte("core"))
	before := len(f.store.Calls())
	long := strings.Repeat("a", 300)
	for _, name := range []string{
		"x%2F..%2F..%2Fnamespaces%2Fbank", "web-0%2fapp", "..", "%2e%2e", "%252e%252e%252fbank", ".", "...", "web-0..x", "web-0;x", "WEB-0", "web_0", "-", "web-0%00", "web-0%0a",
		"%1b%5b31m", "web-0%20", long, long + ".app.20260101t000000z-0123456789", "%f0%9f%92%a3", "web-0.%2e%2e.x",
	} {
		for _, resource := range []string{"coredumps", "coredumpendpoints"} {
			for _, sub := range []string{"", "/dump", "/proxy"} {
				path := api + "/namespaces/shop/" + resource + "/" + name + sub
				code, _, data := f.tryRaw(path)
				if code != 400 && code != 404 && code != 301 && code != 307 {
					t.Errorf("GET %s: %d %.200s", path, code, data)
				}
			}
		}
	}
	f.refused("admin", api+"/namespaces/shop/coredumps/web-0.app.20260132t000000z-0123456789", 404) // no such day
	for _, c := range f.store.Calls()[before:] {
		t.Errorf("%s %q", c.Op, c.Key)
	}
}

// tryRaw sends a path as it is, where http.NewRequest would clean it, and follows no redirect.
func (f *fixture) tryRaw(path string) (int, http.Header, []byte) {
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, f.url, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	req.URL.Opaque = "//" + req.URL.Host + path
	if u, err := url.Parse(f.url); err == nil {
		req.Host = u.Host
	}
	req.Header.Set("Authorization", "Bearer admin")
	resp, err := f.client.Transport.RoundTrip(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, data
}

func TestStoreThatIsAwayIs503(t *testing.T) {
	f := start(t)
	k := f.put("shop", "web-0", "app", 1, []byte("core"))
	away := &storage.Error{Op: "x", Key: "y", Kind: storage.ErrUnavailable, Err: fmt.Errorf("secret-host:443 refused")}
	f.store.Before = func(op storagetest.Op, key string) error { return away }
	for _, path := range []string{"/coredumps", "/coredumps/" + k.Name(), "/coredumps/" + k.Name() + "/dump", "/coredumpendpoints", "/coredumpendpoints/web-0", "/coredumpendpoints/web-0/proxy"} {
		s, header := f.refused("admin", api+"/namespaces/shop"+path, 503, "object store")
		if header.Get("Retry-After") == "" || s.Reason != metav1.StatusReasonServiceUnavailable || strings.Contains(s.Message, "secret-host") {
			t.Errorf("%s: %+v, Retry-After %q", path, s, header.Get("Retry-After"))
		}
	}
	for _, path := range []string{"/readyz", "/livez", api, "/openapi/v3"} {
		if code, _, data := f.try("admin", "GET", path); code != 200 {
			t.Errorf("GET %s while the store is away: %d %s", path, code, data)
		}
	}
	// Only the cores cannot be read: still a Status, because nothing has been sent.
	f.store.Before = func(op storagetest.Op, key string) error {
		if strings.HasSuffix(key, ".core.zst") {
			return away
		}
		return nil
	}
	f.refused("admin", api+"/namespaces/shop/coredumps/"+k.Name()+"/dump", 503)
	f.store.Before = func(op storagetest.Op, key string) error {
		if op == storagetest.OpList || op == storagetest.OpStat {
			return &storage.Error{Op: "x", Key: "y", Kind: storage.ErrDenied}
		}
		return nil
	}
	f.refused("admin", api+"/namespaces/shop/coredumps", 500, "refuses access")
	f.refused("admin", api+"/namespaces/shop/coredumps/"+k.Name(), 500, "refuses access")
}
