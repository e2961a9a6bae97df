// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// S3 is a running S3 server over a temporary directory: the binary that hack/build-tools.sh builds. It ends with the test.
type S3 struct {
	// Endpoint is its URL, for example http://127.0.0.1:43210. It stays the same when the server is started again.
	Endpoint string
	// AccessKey and SecretKey are those of the root account.
	AccessKey, SecretKey string
	// CAFile is the path of the certificate to trust, empty without TLS.
	CAFile string
	// Dir holds the buckets: a subdirectory each, an object is a file.
	Dir string

	t      testing.TB
	binary string
	args   []string
	cmd    *exec.Cmd
	exited chan struct{}
	stderr bytes.Buffer
}

// S3Options are the options of StartS3With.
type S3Options struct {
	// TLS makes the server speak HTTPS, with a certificate of its own.
	TLS bool
	// Users are further accounts, secret keys by access key, which may do what bucket policies allow.
	Users map[string]string
}

// StartS3 starts an S3 server on a free port. COREDUMP_S3SERVER is the path of the binary; where it is unset, the test is skipped, or
// fails under CI=true.
func StartS3(t testing.TB) *S3 { t.Helper(); return StartS3With(t, S3Options{}) }

// StartS3With is StartS3 with options.
func StartS3With(t testing.TB, opts S3Options) *S3 {
	t.Helper()
	binary := os.Getenv("COREDUMP_S3SERVER")
	if binary == "" {
		const msg = "SKIPPED, NOT PASSED: there is no S3 server to test against; " +
			`run with COREDUMP_S3SERVER="$(hack/build-tools.sh s3server)/s3server"`
		if os.Getenv("CI") == "true" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	s := &S3{AccessKey: "root", SecretKey: "root-secret-key", Dir: t.TempDir(), t: t, binary: binary}
	scheme := "http"
	if opts.TLS {
		scheme = "https"
		key := filepath.Join(t.TempDir(), "key.pem")
		s.CAFile = filepath.Join(filepath.Dir(key), "cert.pem")
		certificate(t, s.CAFile, key)
		s.args = append(s.args, "-tls-cert-file", s.CAFile, "-tls-private-key-file", key)
	}
	if opts.Users != nil {
		s.args = append(s.args, "-iam-dir", accounts(t, opts.Users))
	}
	for range 5 { // somebody else may take the port between our asking and the server's
		addr := freeAddress(t)
		s.Endpoint = scheme + "://" + addr
		if s.start(addr) {
			break
		}
	}
	if s.cmd == nil {
		t.Fatalf("the S3 server does not start: %s", s.stderr.String())
	}
	t.Cleanup(s.Stop)
	return s
}

// URL makes the bucket where there is none, and gives its URL as programs take it.
func (s *S3) URL(bucket string) string {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Join(s.Dir, bucket), 0o700); err != nil {
		s.t.Fatal(err)
	}
	q := url.Values{"endpoint": {s.Endpoint}, "region": {"us-east-1"}, "path-style": {"true"}}
	if s.CAFile != "" {
		q.Set("ca-file", s.CAFile)
	}
	return "s3://" + bucket + "?" + q.Encode()
}

// Env is the environment that gives a program the credentials of the root account, and keeps it from others.
func (s *S3) Env() []string { return s.EnvOf(s.AccessKey, s.SecretKey) }

// EnvOf is Env for another account.
func (s *S3) EnvOf(accessKey, secretKey string) []string {
	var env []string
	for k, v := range environment(accessKey, secretKey) {
		env = append(env, k+"="+v)
	}
	return env
}

// Setenv gives the credentials of the root account to this process until the test is over.
func (s *S3) Setenv(t testing.TB) { t.Helper(); s.SetenvOf(t, s.AccessKey, s.SecretKey) }

// SetenvOf is Setenv for another account.
func (s *S3) SetenvOf(t testing.TB, accessKey, secretKey string) {
	t.Helper()
	for k, v := range environment(accessKey, secretKey) {
		t.Setenv(k, v)
	}
}

func environment(accessKey, secretKey string) map[string]string {
	return map[string]string{
		"AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_SESSION_TOKEN": "",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_PROFILE": "", "AWS_EC2_METADATA_DISABLED": "true",
	}
}

// Stop kills the server, as a power cut would, and waits for its end. Its directory stays.
func (s *S3) Stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
	s.cmd = nil
}

// Pause stops the server's process without closing its connections: a store that hangs. Resume lets it go on.
func (s *S3) Pause() { s.signal(pause) }

// Resume ends a Pause.
func (s *S3) Resume() { s.signal(resume) }

func (s *S3) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// Start starts the server again, with the same address and directory, and waits until it answers.
func (s *S3) Start() {
	s.t.Helper()
	u, err := url.Parse(s.Endpoint)
	if err != nil {
		s.t.Fatal(err)
	}
	if !s.start(u.Host) {
		s.t.Fatalf("the S3 server does not start again: %s", s.stderr.String())
	}
}

// start starts the server and tells whether it came to answer.
func (s *S3) start(addr string) bool {
	s.t.Helper()
	cmd := exec.Command(s.binary, append([]string{"-dir", s.Dir, "-addr", addr, "-access", s.AccessKey, "-secret", s.SecretKey}, s.args...)...)
	cmd.SysProcAttr = dieWithParent
	s.stderr.Reset()
	cmd.Stderr = &s.stderr
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{TLSClientConfig: insecure, DisableKeepAlives: true}}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if resp, err := client.Get(s.Endpoint); err == nil { // 403 is an answer
			resp.Body.Close()
			s.cmd, s.exited = cmd, exited
			return true
		}
		select {
		case <-exited:
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	_ = cmd.Process.Kill()
	<-exited
	return false
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// accounts writes the file in which versitygw keeps its accounts and gives its directory.
func accounts(t testing.TB, users map[string]string) string {
	t.Helper()
	type account struct {
		Access string `json:"access"`
		Secret string `json:"secret"`
		Role   string `json:"role"`
	}
	all := map[string]account{}
	for access, secret := range users {
		all[access] = account{access, secret, "user"}
	}
	data, err := json.Marshal(map[string]any{"accessAccounts": all})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "users.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// certificate writes a certificate for 127.0.0.1 that signs itself, and its key.
func certificate(t testing.TB, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(fmt.Errorf("write %s: %w", file, err))
		}
	}
}
