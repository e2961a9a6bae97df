// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/client-go/kubernetes/fake"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/buckets"
	"example.io/coredump/pkg/storage/storagetest"
)

const api = "/apis/coredump.example.io/v1alpha1"

// now is the clock of the server in tests.
var now = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// grant is a right, as RBAC would give it. An empty namespace is all of them; an empty name is any.
type grant struct{ user, verb, resource, namespace, name string }

// fixture is a server that listens on the loopback interface, with a bucket in a directory. Users are who their bearer token says.
type fixture struct {
	t      testing.TB
	store  *storagetest.Faulty
	dumps  *storage.Dumps
	kube   *fake.Clientset
	grants atomic.Pointer[[]grant]
	asked  atomic.Pointer[[]authorizer.AttributesRecord] // what the authorizer was asked, except by the generic server itself
	url    string
	stop   context.CancelFunc
	ended  chan struct{} // closed when the server has ended
	client *http.Client  // HTTP/2
	beside []byte        // the context of the dumps that put stores
}

// start runs a server with the namespaces shop (UID shop-1) and bank (UID bank-1). The user admin may do everything.
func start(t testing.TB, change ...func(*Config)) *fixture {
	t.Helper()
	bucket, err := buckets.Open(t.Context(), "file://"+t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, store: &storagetest.Faulty{Bucket: bucket}, dumps: storage.NewDumps(bucket), ended: make(chan struct{})}
	f.kube = fake.NewClientset(namespace("shop", "shop-1"), namespace("bank", "bank-1"))
	f.allow()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.url = "https://" + listener.Addr().String()
	c := Config{
		Generic: NewGenericConfig(), Bucket: f.store, Namespaces: f.kube.CoreV1().Namespaces(),
		MaxConcurrentDownloads: 4, MaxDownloadsPerUser: 4, StallTimeout: 10 * time.Second, CompressWorkers: 2,
		DrainTimeout: 10 * time.Second, StoreGrace: time.Minute,
		WatchInterval: 20 * time.Millisecond, RecordCacheSize: 8 << 20,
		Now: func() time.Time { return now },
	}
	serving := genericoptions.NewSecureServingOptions().WithLoopback()
	serving.Listener, serving.ServerCert.CertDirectory = listener, ""
	if err := serving.MaybeDefaultWithSelfSignedCerts("localhost", nil, []net.IP{net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	if err := serving.ApplyToConfig(&c.Generic.Config); err != nil {
		t.Fatal(err)
	}
	c.Generic.Authentication.Authenticator = RejectAnonymous(authenticator.RequestFunc(authenticate))
	c.Generic.Authorization.Authorizer = authorizer.AuthorizerFunc(f.authorize)
	for _, f := range change {
		f(&c)
	}
	server, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	go func() {
		defer close(f.ended)
		if err := server.PrepareRun().RunWithContext(ctx); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	}()
	f.client = &http.Client{Transport: transport(true)}
	t.Cleanup(func() {
		f.client.CloseIdleConnections()
		cancel()
		<-f.ended
	})
	f.eventually("ready", func() bool { code, _, _ := f.try("admin", "GET", "/readyz"); return code == http.StatusOK })
	return f
}

func namespace(name, uid string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid)}}
}

// transport trusts everybody: the tests are not about the server's certificate.
func transport(http2 bool) *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: http2, DisableCompression: true}
}

func authenticate(req *http.Request) (*authenticator.Response, bool, error) {
	token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return &authenticator.Response{User: &user.DefaultInfo{Name: user.Anonymous}}, true, nil
	}
	return &authenticator.Response{User: &user.DefaultInfo{Name: token, UID: "uid-of-" + token}}, true, nil
}

// allow replaces the rights.
func (f *fixture) allow(grants ...grant) {
	f.grants.Store(&grants)
	f.asked.Store(&[]authorizer.AttributesRecord{})
}

func (f *fixture) authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	resource := a.GetResource()
	if a.GetSubresource() != "" {
		resource += "/" + a.GetSubresource()
	}
	if !a.IsResourceRequest() || a.GetUser().GetName() == "admin" || a.GetUser().GetName() == user.APIServerUser {
		return authorizer.DecisionAllow, "", nil
	}
	if info, _ := request.RequestInfoFrom(ctx); info.Namespace != a.GetNamespace() || info.Subresource != a.GetSubresource() {
		asked := append(*f.asked.Load(), a.(authorizer.AttributesRecord))
		f.asked.Store(&asked)
	}
	for _, g := range *f.grants.Load() {
		if g.user == a.GetUser().GetName() && g.verb == a.GetVerb() && g.resource == resource &&
			(g.namespace == "" || g.namespace == a.GetNamespace()) && (g.name == "" || g.name == a.GetName()) {
			return authorizer.DecisionAllow, "", nil
		}
	}
	return authorizer.DecisionNoOpinion, "", nil
}

func (f *fixture) eventually(what string, ok func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("never came: %s", what)
		}
	}
}

// put stores a dump of pod and container in a namespace that has its first UID, crashed so many minutes ago. Its core is the text.
func (f *fixture) put(ns, pod, container string, minutes int, core []byte, change ...func(*v1alpha1.CoreDump)) storage.Key {
	f.t.Helper()
	at := now.Add(-time.Duration(minutes) * time.Minute)
	sum := sha256.Sum256(core)
	rec := &v1alpha1.CoreDump{
		Spec: v1alpha1.CoreDumpSpec{
			PodName: pod, PodUID: pod + "-uid", NamespaceUID: ns + "-1", ContainerName: container, NodeName: "node-1",
			Process: v1alpha1.Process{Executable: "/usr/bin/server", PID: int64(minutes), Signal: 11, SignalName: "SIGSEGV", Time: metav1.NewTime(at)},
		},
		Status: v1alpha1.CoreDumpStatus{Size: int64(len(core)), Codec: "zst", SHA256: hex.EncodeToString(sum[:])},
	}
	rec.Labels = map[string]string{"app": pod}
	for _, c := range change {
		c(rec)
	}
	k := storage.Key{Namespace: ns, Pod: pod, Container: container, ID: storage.NewID(at, ns, pod, container, rec.Spec.PodUID, fmt.Sprint(rec.Spec.Process.PID))}
	var body bytes.Buffer
	w, err := storage.Codec(rec.Status.Codec).NewWriter(&body, 1)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := w.Write(core); err != nil {
		f.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.t.Fatal(err)
	}
	err = f.dumps.Commit(f.t.Context(), k, storage.Body{Reader: &body, Codec: storage.Codec(rec.Status.Codec), Context: f.beside}, func(o storage.Object) (*v1alpha1.CoreDump, error) {
		rec.Status.StoredSize = o.Size
		return rec, nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return k
}

// do sends a request and gives the answer, of which the caller closes the body.
func (f *fixture) do(client *http.Client, who, method, path string, header ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.url+path, nil)
	if err != nil {
		return nil, err
	}
	if who != "" {
		req.Header.Set("Authorization", "Bearer "+who)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return client.Do(req)
}

func (f *fixture) try(who, method, path string, header ...string) (int, http.Header, []byte) {
	resp, err := f.do(f.client, who, method, path, header...)
	if err != nil {
		return 0, nil, []byte(err.Error())
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, resp.Header, []byte(err.Error())
	}
	return resp.StatusCode, resp.Header, data
}

// get reads an object of the API.
func (f *fixture) get(who, path string, into any, header ...string) {
	f.t.Helper()
	code, _, data := f.try(who, "GET", path, header...)
	if code != http.StatusOK {
		f.t.Fatalf("GET %s as %s: %d %s", path, who, code, data)
	}
	if err := json.Unmarshal(data, into); err != nil {
		f.t.Fatalf("GET %s: %v in %s", path, err, data)
	}
}

// refused wants a Status with the code whose message has all the parts.
func (f *fixture) refused(who, path string, code int, parts ...string) (metav1.Status, http.Header) {
	f.t.Helper()
	got, header, data := f.try(who, "GET", path)
	var s metav1.Status
	if err := json.Unmarshal(data, &s); err != nil || s.Kind != "Status" || s.Status != metav1.StatusFailure || int(s.Code) != got {
		f.t.Fatalf("GET %s as %s: %d and no Status: %.300q", path, who, got, data)
	}
	if got != code {
		f.t.Errorf("GET %s as %s: %d %s, want %d", path, who, got, s.Message, code)
	}
	for _, part := range parts {
		if !strings.Contains(s.Message, part) {
			f.t.Errorf("GET %s as %s: message %q does not say %q", path, who, s.Message, part)
		}
	}
	return s, header
}

func (f *fixture) names(who, path string) []string {
	f.t.Helper()
	var list v1alpha1.CoreDumpList
	f.get(who, path, &list)
	names := []string{}
	for _, d := range list.Items {
		names = append(names, d.Namespace+"/"+d.Name)
	}
	return names
}

func named(keys ...storage.Key) []string {
	names := []string{}
	for _, k := range keys {
		names = append(names, k.Namespace+"/"+k.Name())
	}
	return names
}
