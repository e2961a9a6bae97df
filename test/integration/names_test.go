// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// client speaks to a server that the cluster's CA signed for, with the given client certificate or none.
func (f *fixture) client(t *testing.T, cert, key string) *http.Client {
	t.Helper()
	ca, err := os.ReadFile(f.cluster.CA())
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(ca)
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func fetch(t *testing.T, c *http.Client, url string, header map[string]string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func TestNoNameLeadsIntoAnotherNamespace(t *testing.T) {
	f := &shared
	mine, theirs := f.namespace(t, "names-mine"), f.namespace(t, "names-theirs")
	mallory := f.user(t, "names-mallory", mine, "coredump-downloader")
	victim := f.dump(t, core{namespace: theirs, pod: "web-0", container: "app", seed: 1})
	f.dump(t, core{namespace: mine, pod: "web-0", container: "app", seed: 2})
	base := api + "/namespaces/" + mine

	for _, path := range []string{
		base + "/coredumps/..%2f" + theirs + "%2fweb-0.app/dump",
		base + "/coredumps/..%2f..%2f" + theirs + "%2fcoredumps%2f" + victim.Name + "/dump",
		base + "/coredumps/%252e%252e%252f" + theirs + "/dump",
		base + "/coredumps/../../" + theirs + "/coredumps/" + victim.Name + "/dump",
		base + "/coredumps/" + victim.Name + "/dump",
		base + "/coredumps/" + strings.Repeat("a", 300) + "/dump",
		base + "/coredumps/" + strings.Repeat("a.", 150) + "app.20260101t000000z-0123456789/dump",
		base + "/coredumps/web-0.app.;.20260101t000000z-0123456789/dump",
		base + "/coredumps//dump",
		base + "/coredumpendpoints/..%2f" + theirs + "%2fweb-0/dump",
		base + "/coredumpendpoints/" + strings.Repeat("a", 300) + "/dump",
		base + "/coredumpendpoints/web-0%00/dump",
		base + "/coredumpendpoints/web-0/dump?container=..%2f..%2f" + theirs + "%2fweb-0%2fapp",
		base + "/coredumpendpoints/web-0/dump?container=" + strings.Repeat("a", 300),
		base + "/coredumpendpoints/web-0/dump?uid=..%2f" + theirs,
	} {
		out, err := f.kubectl(t, mallory, "get", "--raw", path)
		if err == nil {
			t.Errorf("%s: kubectl exited 0 with %d bytes", path, len(out))
			continue
		}
		if strings.Contains(err.Error(), "InternalError") {
			t.Errorf("%s: %v, want a clear refusal", path, err)
		}
	}
}

func TestOnlyTheFrontProxyCanSpeakForUsers(t *testing.T) {
	f := &shared
	ns := f.namespace(t, "forged")
	f.dump(t, core{namespace: ns, pod: "web-0", container: "app", seed: 1})
	url := f.system.APIServerURL() + dumpPath(ns, "web-0", "")
	forged := map[string]string{"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}

	stranger, err := f.cluster.ClientCertificate("forged-stranger", "nobody")
	if err != nil {
		t.Fatal(err)
	}
	named, err := f.cluster.FrontProxyCertificate("not-the-front-proxy")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, cert, key string
		header          map[string]string
		want            int
	}{
		{"headers without a certificate", "", "", forged, http.StatusUnauthorized},
		{"headers with a user's certificate count for nothing", stranger.Cert, stranger.Key, forged, http.StatusForbidden},
		{"headers with the front proxy's CA but another name", named.Cert, named.Key, forged, http.StatusUnauthorized},
		{"a made-up token", "", "", map[string]string{"Authorization": "Bearer made-up"}, http.StatusUnauthorized},
		{"nothing at all", "", "", nil, http.StatusUnauthorized},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, body := fetch(t, f.client(t, test.cert, test.key), url, test.header)
			if status != test.want {
				t.Errorf("status %d, want %d: %.200s", status, test.want, body)
			}
		})
	}
}
