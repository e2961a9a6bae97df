// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/fetch"
	"example.io/coredump/pkg/storage"
)

// network is between a client and the server: it knows who is there, and breaks off what it is told to.
type network struct {
	who      string
	below    http.RoundTripper
	breaks   bool
	requests atomic.Int64
	broken   atomic.Int64
	partial  atomic.Int64 // answers that are a range
}

func (n *network) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+n.who)
	resp, err := n.below.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusPartialContent {
		n.partial.Add(1)
	}
	if i := n.requests.Add(1); err == nil && n.breaks && i%3 == 0 && resp.ContentLength > 1 {
		n.broken.Add(1)
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.LimitReader(resp.Body, resp.ContentLength/2), errReader{}), resp.Body}
	}
	return resp, err
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("the network broke") }

// TestTheClientFetchesFromTheServer: what kubectl coredump does with what this server gives, for whatever a dump is stored as.
func TestTheClientFetchesFromTheServer(t *testing.T) {
	f := start(t)
	content := make([]byte, 20<<20) // 5 MiB of noise, zeros, and noise again
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content[:5<<20])
	copy(content[12<<20:], content[:5<<20])
	for _, codec := range []storage.Codec{storage.CodecZstd, storage.CodecGzip, storage.CodecNone} {
		for _, breaks := range []bool{false, true} {
			if breaks && codec == storage.CodecGzip {
				continue // no ranges: nothing to go on with
			}
			name := "codec " + string(codec)
			key := f.put("shop", "web-"+string(codec)+"x", "app", 5, content, func(d *v1alpha1.CoreDump) {
				d.Status.Codec = string(codec)
				d.Spec.PodUID += name
				if breaks {
					d.Spec.PodUID += "-breaks"
				}
			})
			var d v1alpha1.CoreDump
			path := api + "/namespaces/shop/coredumps/" + key.Name()
			f.get("admin", path, &d)
			wire := &network{who: "admin", below: transport(false), breaks: breaks}
			want := fetch.Dump{ID: key.Name(), Size: d.Status.Size, SHA256: d.Status.SHA256, ObjectSize: d.Status.Size}
			format := "core"
			if codec == storage.CodecZstd {
				want.Compressed, want.ObjectSize, format = true, d.Status.StoredSize, "core.zst"
			}
			object := &fetch.Object{Client: &http.Client{Transport: wire}, Ranges: f.url + path + "/dump?format=" + format, Whole: f.url + path + "/proxy?format=" + format}
			dir, err := os.OpenRoot(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			o := fetch.Options{Name: "x", Workers: 3, Delay: time.Millisecond, GiveUp: 30 * time.Second}
			file, err := fetch.File(t.Context(), object, want, dir, o)
			if err != nil {
				t.Errorf("%s, breaks %v: %v", name, breaks, err)
				continue
			}
			got, err := dir.ReadFile(file)
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s, breaks %v: %d bytes, %v", name, breaks, len(got), err)
			}
			if ranges := wire.partial.Load() > 1; ranges != (codec != storage.CodecGzip) {
				t.Errorf("%s: ranges %v", name, ranges)
			}
			if breaks && wire.broken.Load() == 0 {
				t.Errorf("%s: nothing broke in %d requests", name, wire.requests.Load())
			}
			var b bytes.Buffer
			if err := fetch.Stream(t.Context(), object, want, &b, o); err != nil || !bytes.Equal(b.Bytes(), content) {
				t.Errorf("%s, breaks %v: the stream has %d bytes, %v", name, breaks, b.Len(), err)
			}
			_ = dir.Close()
		}
	}
	// What the server finds to be wrong beforehand it says so that a client knows that asking again does not help.
	k := f.put("shop", "web-9", "app", 6, content)
	f.overwrite(k.Body(storage.CodecZstd), func(b []byte) []byte { return b[:len(b)-100] })
	s, _ := f.refused("admin", api+"/namespaces/shop/coredumps/"+k.Name()+"/dump?format=core.zst", 500, "its record says")
	if !apierrors.HasStatusCause(&apierrors.StatusError{ErrStatus: s}, v1alpha1.CauseCorrupt) {
		t.Errorf("truncated: the causes are %v", s.Details)
	}
	// Who may not gets a Status, and no file.
	var d v1alpha1.CoreDumpList
	f.get("admin", api+"/namespaces/shop/coredumps", &d)
	object := &fetch.Object{Client: &http.Client{Transport: &network{who: "mallory", below: transport(false)}}, Ranges: f.url + api + "/namespaces/shop/coredumps/" + d.Items[0].Name + "/dump?format=core"}
	dir, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	_, err = fetch.File(t.Context(), object, fetch.Dump{ID: "x", Size: d.Items[0].Status.Size, ObjectSize: d.Items[0].Status.Size}, dir, fetch.Options{Name: "x"})
	var status *fetch.StatusError
	if !errors.As(err, &status) || status.Code != http.StatusForbidden || !bytes.Contains(status.Body, []byte("Forbidden")) {
		t.Errorf("mallory: %v", err)
	}
}
