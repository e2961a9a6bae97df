// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package httprange

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"example.io/coredump/pkg/tarball"
)

// A plain tool goes on with a half of an archive, and does not glue the half of another one to it.
func TestCurlResumes(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	var files []tarball.File
	for i := range 20 {
		files = append(files, tarball.Bytes(fmt.Sprint("app/core-", i), time.Unix(1760000000, 0), bytes.Repeat([]byte{byte(i)}, 1000+rand.IntN(1000))))
	}
	a, err := tarball.Splice(files, tarball.Zstd)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := io.ReadAll(a.Open(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	codes := make(chan int, 16) // of the answers
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		answer := Decide(req.Method, req.Header, Representation{Size: a.Size(), ETag: a.ETag(), Seekable: a.Seekable()})
		codes <- answer.Code
		answer.SetHeader(w.Header())
		w.WriteHeader(answer.Code)
		if answer.Code >= 300 || req.Method == http.MethodHead {
			return
		}
		r, err := a.OpenRange(req.Context(), answer.Offset, answer.Length)
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close()
		if _, err := io.Copy(w, r); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()

	name := filepath.Join(t.TempDir(), "archive.tar.zst")
	for _, test := range []struct {
		half int
		args []string
		code int
	}{
		{0, nil, http.StatusOK},
		{len(whole) / 2, []string{"-C", "-"}, http.StatusPartialContent},
		{len(whole) - 1, []string{"-C", "-", "-H", "If-Match: " + a.ETag()}, http.StatusPartialContent},
		{len(whole), []string{"-H", "If-None-Match: " + a.ETag()}, http.StatusNotModified},
	} {
		if err := os.WriteFile(name, whole[:test.half], 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "curl", append(test.args, "-sSf", "-o", name, server.URL)...).CombinedOutput()
		if err != nil || len(codes) != 1 {
			t.Fatalf("%v: %v, %d requests: %s", test.args, err, len(codes), out)
		}
		if code := <-codes; code != test.code {
			t.Fatalf("%v: %d, want %d", test.args, code, test.code)
		}
		got, err := os.ReadFile(name)
		if err != nil || test.code != http.StatusNotModified && !bytes.Equal(got, whole) {
			t.Errorf("%v: %d bytes, %v, want %d", test.args, len(got), err, len(whole))
		}
	}
	out, err := exec.CommandContext(t.Context(), "curl", "-sSf", "-C", "5", "-H", `If-Match: "another"`, "-o", name, server.URL).CombinedOutput()
	if err == nil || len(codes) != 1 {
		t.Fatalf("%v, %d requests: %s", err, len(codes), out)
	}
	if code := <-codes; code != http.StatusPreconditionFailed {
		t.Errorf("another ETag: %d", code)
	}
}
