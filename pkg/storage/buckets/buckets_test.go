// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package buckets

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/file"
	"example.io/coredump/pkg/storage/s3"
	"example.io/coredump/pkg/storage/storagetest"
)

func TestEveryParameterReachesTheDriver(t *testing.T) {
	for raw, want := range map[string]s3.Options{
		"s3://bucket": {Bucket: "bucket"},
		"s3://my.bucket-1/a/b/?endpoint=https://s3.example.com:9000/&region=eu-1&profile=p&ca-file=/ca&sse=aws:kms&kms-key-id=arn:aws:kms:x:1:key/2" +
			"&storage-class=STANDARD_IA&part-size=16Mi&concurrency=5&checksum=sha256&timeout=1m&attempts=2": {
			Bucket: "my.bucket-1", Prefix: "a/b", Endpoint: "https://s3.example.com:9000", Region: "eu-1", Profile: "p", PathStyle: true, CAFile: "/ca",
			SSE: "aws:kms", KMSKeyID: "arn:aws:kms:x:1:key/2", StorageClass: "STANDARD_IA", PartSize: 16 << 20, Concurrency: 5, Checksum: "sha256",
			Timeout: time.Minute, Attempts: 2,
		},
		"s3://bucket?endpoint=http://[::1]:9000&path-style=false": {Bucket: "bucket", Endpoint: "http://[::1]:9000"},
		"s3://bucket?path-style=true&sse=AES256":                  {Bucket: "bucket", PathStyle: true, SSE: "AES256"},
	} {
		if got, err := s3Options(mustParse(t, raw)); err != nil || got != want {
			t.Errorf("%s:\ngot  %+v, %v\nwant %+v", raw, got, err, want)
		}
	}
	for raw, want := range map[string]file.Options{"file:///a/b": {Verify: true}, "file:///a/b/?verify=true": {Verify: true}, "file:///a//b?verify=false": {}} {
		if dir, got, err := fileOptions(mustParse(t, raw)); err != nil || got != want || dir != "/a/b" {
			t.Errorf("%s: got %q, %+v, %v, want %+v", raw, dir, got, err, want)
		}
	}
}

func TestEverythingThatIsWrongIsReported(t *testing.T) {
	for raw, want := range map[string][]string{
		"":                 {"no URL", "s3://", "file:///"},
		"bucket":           {`scheme ""`, "s3 or file"},
		"gs://bucket":      {`scheme "gs"`, "s3 or file"},
		"s3:bucket":        {"//"},
		"s3://bucket#x":    {"#x"},
		"s3://":            {"bucket", "3 to 63"},
		"s3://Bucket_1":    {"Bucket_1", "lower case"},
		"s3://bucket:9000": {"bucket:9000"},
		"s3://bucket/../x": {"prefix", `".."`},
		"s3://bucket/a//b": {"prefix"},
		"s3://bucket/" + strings.Repeat("a/", 300) + "a": {"prefix of 601 bytes", "512"},
		"s3://bucket?colour=red&part-size=1Mi&concurrency=0&timeout=0s&attempts=x&path-style=yes&checksum=crc16&sse=none&storage-class=GLACIER&endpoint=ftp://x&kms-key-id=k": {
			`"colour" is unknown`, "ca-file, checksum, concurrency, endpoint", `part-size="1Mi"`, "5Mi to 5Gi", `concurrency="0"`, "1 to 64", `timeout="0s"`, "1s to 1h", `attempts="x"`, "1 to 10",
			`path-style="yes"`, "true, false", `checksum="crc16"`, "crc64nvme, crc32c, sha256, md5", `sse="none"`, "AES256, aws:kms", `storage-class="GLACIER"`, "read at once",
			`endpoint="ftp://x"`, "http[s]://host[:port]", "kms-key-id", "sse=aws:kms",
		},
		"s3://bucket?region=a&region=b":             {"region", "2 times"},
		"s3://bucket?region=":                       {"region", "empty"},
		"s3://bucket?a;b":                           {"semicolon"},
		"s3://bucket?endpoint=http://u:p@host":      {"endpoint"},
		"s3://bucket?endpoint=http://host/path":     {"endpoint"},
		"s3://bucket?part-size=99999999999999999Gi": {"part-size"},
		"file://path/x":                             {`host "path"`, "three slashes"},
		"file:///":                                  {"directory of its own"},
		"file:///a?verify=maybe&x=y":                {"verify", "true or false", `"x" is unknown`},
		"s3://%zz":                                  {"%zz"},
	} {
		_, err := Open(t.Context(), raw)
		if !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("%s: got %v, want %v", raw, err, storage.ErrInvalid)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: the error does not say %q: %v", raw, w, err)
			}
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error has several lines: %v", raw, err)
		}
	}
}

func TestAPasswordInTheURLIsNotRepeated(t *testing.T) {
	for _, raw := range []string{"s3://key:secret@bucket", "s3://key:secret@bucket%zz"} {
		if _, err := Open(t.Context(), raw); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", raw, err)
		}
	}
}

func TestUsageNamesEveryParameterAndDefault(t *testing.T) {
	documented := map[string][]string{}
	section := ""
	for line := range strings.Lines(Usage) {
		if scheme, _, ok := strings.Cut(line, "://"); ok && !strings.HasPrefix(line, " ") {
			section = scheme
		} else if m := regexp.MustCompile(`^  ([a-z0-9-]+)=`).FindStringSubmatch(line); m != nil {
			documented[section] = append(documented[section], m[1])
		}
	}
	for scheme, raw := range map[string]string{"s3": "s3://bucket?unknown=1", "file": "file:///a?unknown=1"} {
		_, err := Open(t.Context(), raw)
		_, list, _ := strings.Cut(err.Error(), "there are ")
		there := strings.Split(list, ", ")
		if slices.Sort(documented[scheme]); !slices.Equal(there, documented[scheme]) {
			t.Errorf("%s has the parameters %q, and documented are %q", scheme, there, documented[scheme])
		}
	}
	for _, s := range []string{"part-size x (concurrency + 1), 32 MiB", "default 8Mi", "default 3", "default crc64nvme", "default 30s"} {
		if !strings.Contains(Usage, s) {
			t.Errorf("there is no %q", s)
		}
	}
	if s3.DefaultPartSize*(s3.DefaultConcurrency+1) != 32<<20 || s3.DefaultTimeout != 30*time.Second || s3.DefaultAttempts != 3 || s3.DefaultChecksum != "crc64nvme" {
		t.Error("the defaults are not those that are documented")
	}
}

func TestOpenOpens(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(t.Context(), "file://"+dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	for _, raw := range []string{"file://" + dir + "/missing", "s3://bucket?region=r&ca-file=" + dir + "/missing"} {
		if b, err := Open(t.Context(), raw); b != nil || err == nil || !strings.Contains(err.Error(), "missing") {
			t.Errorf("%s: got %v, %v", raw, b, err)
		}
	}
	noPEM := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(noPEM, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), "s3://bucket?region=r&ca-file="+noPEM); !errors.Is(err, storage.ErrInvalid) {
		t.Errorf("a CA file without a certificate: got %v", err)
	}
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	if _, err := Open(t.Context(), "s3://bucket"); !errors.Is(err, storage.ErrInvalid) || !strings.Contains(err.Error(), "region") {
		t.Errorf("no region: got %v", err)
	}
}

func TestURLOfTheTestServer(t *testing.T) {
	s := storagetest.StartS3(t)
	s.Setenv(t)
	b, err := Open(t.Context(), s.URL("bucket"))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func FuzzOpen(f *testing.F) {
	for _, s := range []string{"s3://bucket/prefix?endpoint=http://h&part-size=8Mi", "file:///x?verify=false", "s3://u:p@b?a;b", "file://%00", "s3://b/%2e%2e/x", "s3:///"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := parse(raw)
		if err != nil {
			return
		}
		switch u.Scheme {
		case "s3":
			if opts, err := s3Options(u); err == nil {
				if opts.Prefix != "" && (storage.CheckKey(opts.Prefix) != nil || len(opts.Prefix) > storage.MaxPrefixSize) || !bucketName.MatchString(opts.Bucket) {
					t.Errorf("%q: accepted %+v", raw, opts)
				}
			}
		case "file":
			if dir, _, err := fileOptions(u); err == nil && (!filepath.IsAbs(dir) || filepath.Clean(dir) != dir || dir == "/") {
				t.Errorf("%q: accepted %q", raw, dir)
			}
		}
	})
}

func mustParse(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
