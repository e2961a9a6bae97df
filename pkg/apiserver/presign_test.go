// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit/policy"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
)

// urls is a store that has URLs.
type urls struct{ storage.Bucket }

func (urls) Presign(_ context.Context, key string, ttl time.Duration) (string, error) {
	return "https://store/" + key + "?signature=secret&for=" + ttl.String(), nil
}

func (f *fixture) post(who, path, body string) (int, []byte) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, f.url+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+who)
	req.Header.Set("Content-Type", "application/json")
	resp, err := f.client.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.StatusCode, data
}

func withURLs(c *Config) {
	c.Bucket, c.PresignTTL = urls{c.Bucket}, 5*time.Minute
}

func TestAURLIsGivenToWhoMayCreateItAndGetTheBytes(t *testing.T) {
	log := &trail{}
	f := start(t, withURLs, func(c *Config) {
		c.Generic.AuditBackend = log
		c.Generic.AuditPolicyRuleEvaluator = policy.NewPolicyRuleEvaluator(&auditinternal.Policy{Rules: []auditinternal.PolicyRule{{Level: auditinternal.LevelMetadata}}})
	})
	k := f.put("shop", "web-0", "app", 1, []byte("core"))
	other := f.put("shop", "web-0", "app", 2, []byte("core"), func(d *v1alpha1.CoreDump) { d.Spec.NamespaceUID = "shop-0" })
	path := api + "/namespaces/shop/coredumps/" + k.Name() + "/presign"
	mayPresign := grant{"alice", "create", "coredumps/presign", "shop", ""}
	mayDump := grant{"alice", "get", "coredumps/dump", "shop", ""}
	for name, test := range map[string]struct {
		grants []grant
		code   int
	}{
		"neither":         {nil, 403},
		"only the URL":    {[]grant{mayPresign}, 403},
		"only the bytes":  {[]grant{mayDump}, 403},
		"get of presign":  {[]grant{mayDump, {"alice", "get", "coredumps/presign", "shop", ""}}, 403},
		"in another":      {[]grant{mayPresign, {"alice", "get", "coredumps/dump", "bank", ""}}, 403},
		"both":            {[]grant{mayPresign, mayDump}, 201},
		"proxy as well":   {[]grant{mayPresign, {"alice", "get", "coredumps/proxy", "shop", ""}}, 403},
		"of another name": {[]grant{mayPresign, {"alice", "get", "coredumps/dump", "shop", "x"}}, 403},
	} {
		f.allow(test.grants...)
		code, data := f.post("alice", path, "{}")
		if code != test.code || code != 201 && strings.Contains(string(data), "signature") {
			t.Errorf("%s: %d %s", name, code, data)
		}
	}
	f.allow(mayPresign, mayDump)
	code, data := f.post("alice", path, `{"apiVersion":"coredump.example.io/v1alpha1","kind":"PresignedURL","status":{"url":"ignored"}}`)
	var got v1alpha1.PresignedURL
	if err := json.Unmarshal(data, &got); err != nil || code != 201 || got.Kind != "PresignedURL" || got.Name != k.Name() || got.Namespace != "shop" {
		t.Fatalf("%d %v %s", code, err, data)
	}
	s := got.Status
	if s.URL != "https://store/"+k.Body(storage.CodecZstd)+"?signature=secret&for=5m0s" || !s.Expires.Time.Equal(now.Add(5*time.Minute)) || s.Size != 4 || s.StoredSize == 0 || len(s.SHA256) != 64 || s.Codec != "zst" {
		t.Errorf("%+v", s)
	}
	// The dump of the namespace that had the name before is not found, with or without the right.
	if code, data := f.post("alice", strings.ReplaceAll(path, k.Name(), other.Name()), "{}"); code != 404 {
		t.Errorf("another tenant's: %d %s", code, data)
	}
	f.allow(mayPresign, grant{"alice", "get", "coredumps/dump", "", ""})
	if code, data := f.post("alice", strings.ReplaceAll(path, k.Name(), other.Name()), "{}"); code != 201 {
		t.Errorf("for who may dump everywhere: %d %s", code, data)
	}
	if code, data := f.post("alice", path+"?dryRun=All", "{}"); code != 400 {
		t.Errorf("dry run: %d %s", code, data)
	}
	f.eventually("an event with the annotations", func() bool {
		log.mu.Lock()
		defer log.mu.Unlock()
		for _, e := range log.events {
			if e.ObjectRef != nil && e.ObjectRef.Subresource == "presign" && e.User.Username == "alice" && e.Annotations["coredump.example.io/format"] == "presigned" && e.Annotations["coredump.example.io/expires"] == "2026-07-01T12:05:00Z" {
				return true
			}
		}
		return false
	})
	if f.metric("coredump_apiserver_presigned_urls_total") < 3 {
		t.Error("they are not counted")
	}
}

func TestNoURLIsGivenOfWhatIsNotWhatItsRecordSays(t *testing.T) {
	f := start(t, withURLs)
	k := f.put("shop", "web-0", "app", 1, []byte("core"))
	f.overwrite(k.Body(storage.CodecZstd), func(b []byte) []byte { return b[:3] })
	if code, data := f.post("admin", api+"/namespaces/shop/coredumps/"+k.Name()+"/presign", "{}"); code != 500 {
		t.Errorf("%d %s", code, data)
	}
}

func TestWithoutTheFlagThereIsNoPresign(t *testing.T) {
	f := start(t, func(c *Config) { c.Bucket = urls{c.Bucket} })
	k := f.put("shop", "web-0", "app", 1, []byte("core"))
	if code, data := f.post("admin", api+"/namespaces/shop/coredumps/"+k.Name()+"/presign", "{}"); code != 404 {
		t.Errorf("%d %s", code, data)
	}
	c := Config{Bucket: f.store, PresignTTL: time.Minute}
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "only s3") {
		t.Errorf("a store without URLs: %v", err)
	}
}
