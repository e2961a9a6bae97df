// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes/scheme"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/httprange"
	"example.io/coredump/pkg/seekable"
	"example.io/coredump/pkg/storage"
)

var now = time.Date(2026, 11, 21, 4, 20, 0, 0, time.UTC)

// world is an API server with dumps, and a directory for a user of it.
type world struct {
	t    *testing.T
	http *httptest.Server
	dir  string
	out  bytes.Buffer
	err  bytes.Buffer
	exec func(ctx context.Context, p Program) error

	mu       sync.Mutex
	dumps    []v1alpha1.CoreDump
	bodies   map[string][]byte // by name
	denied   map[string]bool   // "verb resource/subresource"
	broken   bool              // reviews are not answered
	serve    func(w http.ResponseWriter, r *http.Request) bool
	pods     map[string]*corev1.Pod
	deleted  []string
	requests []string
	terminal bool
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir(), bodies: map[string][]byte{}, denied: map[string]bool{}, pods: map[string]*corev1.Pod{}}
	w.http = httptest.NewServer(w)
	t.Cleanup(w.http.Close)
	t.Setenv("KUBECONFIG", filepath.Join(w.dir, "no-kubeconfig"))
	return w
}

// dump stores a core of a pod of the namespace shop.
func (w *world) dump(pod string, age time.Duration, content []byte) *v1alpha1.CoreDump {
	w.t.Helper()
	var b bytes.Buffer
	z, err := seekable.NewWriter(&b, seekable.Options{FrameSize: 64 << 10})
	if err == nil {
		_, err = z.Write(content)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	key := storage.Key{Namespace: "shop", Pod: pod, Container: "app", ID: storage.NewID(now.Add(-age), pod, age.String())}
	sum := sha256.Sum256(content)
	d := v1alpha1.CoreDump{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: key.Name(), Labels: map[string]string{"app": pod}},
		Spec: v1alpha1.CoreDumpSpec{PodName: pod, PodUID: "uid-of-" + pod, ContainerName: "app", Image: "registry.example.io/" + pod + ":v1", NodeName: "node-1",
			Process: v1alpha1.Process{Executable: "/app/server", PID: 7, Signal: 11, SignalName: "SIGSEGV", Time: metav1.NewTime(now.Add(-age))},
			Capture: v1alpha1.Capture{Mode: v1alpha1.CapturePipe, Identity: v1alpha1.IdentityVerified}},
		Status: v1alpha1.CoreDumpStatus{Size: int64(len(content)), StoredSize: int64(b.Len()), Codec: "zst", SHA256: hex.EncodeToString(sum[:])},
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dumps = append(w.dumps, d)
	w.bodies[d.Name] = b.Bytes()
	return &w.dumps[len(w.dumps)-1]
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests = append(w.requests, r.Method+" "+r.URL.RequestURI())
	if w.serve != nil && w.serve(rw, r) {
		return
	}
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews"):
		var review authorizationv1.SelfSubjectAccessReview
		decode(r, &review)
		a := review.Spec.ResourceAttributes
		right := a.Verb + " " + a.Resource
		if a.Subresource != "" {
			right += "/" + a.Subresource
		}
		review.Status.Allowed = !w.denied[right]
		if w.broken {
			refuse(rw, apierrors.NewServiceUnavailable("no reviews today"))
			return
		}
		reply(rw, &review)
	case strings.HasSuffix(r.URL.Path, "/selfsubjectreviews"):
		review := authenticationv1.SelfSubjectReview{}
		review.Status.UserInfo.Username = "alice"
		reply(rw, &review)
	case r.URL.Path == "/version":
		reply(rw, map[string]string{"major": "1", "minor": "37"})
	case strings.Contains(r.URL.Path, "/pods"):
		w.servePods(rw, r, path)
	case path[len(path)-1] == "coredumps":
		if r.URL.Query().Get("watch") != "" {
			refuse(rw, apierrors.NewMethodNotSupported(schema.GroupResource{Group: group, Resource: "coredumps"}, "watch"))
			return
		}
		w.list(rw, r)
	default:
		w.one(rw, r, path)
	}
}

func (w *world) list(rw http.ResponseWriter, r *http.Request) {
	selector, err := fields.ParseSelector(r.URL.Query().Get("fieldSelector"))
	if err != nil {
		refuse(rw, apierrors.NewBadRequest(err.Error()))
		return
	}
	list := v1alpha1.CoreDumpList{}
	list.ResourceVersion = "1"
	for _, d := range w.dumps {
		if selector.Matches(v1alpha1.SelectableFields(&d)) {
			list.Items = append(list.Items, d)
		}
	}
	reply(rw, &list)
}

// one serves …/namespaces/NS/coredumps/NAME[/dump].
func (w *world) one(rw http.ResponseWriter, r *http.Request, path []string) {
	i := len(path) - 1
	dump := path[i] == "dump" || path[i] == "proxy"
	if dump {
		i--
	}
	for _, d := range w.dumps {
		if d.Name != path[i] {
			continue
		}
		if !dump {
			reply(rw, &d)
			return
		}
		if w.denied["dump"] {
			refuse(rw, apierrors.NewForbidden(schema.GroupResource{Group: group, Resource: "coredumps"}, d.Name, fmt.Errorf("no")))
			return
		}
		body := w.bodies[d.Name]
		a := httprange.Decide(r.Method, r.Header, httprange.Representation{Size: int64(len(body)), ETag: `"x"`, Seekable: true})
		a.SetHeader(rw.Header())
		rw.WriteHeader(a.Code)
		_, _ = rw.Write(body[a.Offset : a.Offset+a.Length])
		return
	}
	refuse(rw, apierrors.NewNotFound(schema.GroupResource{Group: group, Resource: "coredumps"}, path[i]))
}

func (w *world) servePods(rw http.ResponseWriter, r *http.Request, path []string) {
	name := path[len(path)-1]
	switch r.Method {
	case http.MethodPost:
		pod := &corev1.Pod{}
		decode(r, pod)
		pod.Name = pod.GenerateName + "x1"
		w.pods[pod.Name] = pod
		reply(rw, pod)
	case http.MethodGet:
		if w.pods[name] == nil {
			refuse(rw, apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, name))
			return
		}
		reply(rw, w.pods[name])
	case http.MethodDelete:
		w.deleted = append(w.deleted, name)
		reply(rw, &metav1.Status{Status: "Success"})
	}
}

// decode understands a request, which may be JSON or protobuf.
func decode(r *http.Request, into runtime.Object) {
	data, err := io.ReadAll(r.Body)
	if err == nil {
		_, _, err = scheme.Codecs.UniversalDeserializer().Decode(data, nil, into)
	}
	if err != nil {
		panic(err)
	}
}

func reply(rw http.ResponseWriter, obj any) {
	rw.Header().Set("Content-Type", "application/json")
	data, err := json.Marshal(obj)
	if err != nil {
		panic(err)
	}
	var m map[string]any
	_ = json.Unmarshal(data, &m)
	switch obj.(type) { // typed clients look at it
	case *v1alpha1.CoreDump:
		m["apiVersion"], m["kind"] = v1alpha1.SchemeGroupVersion.String(), "CoreDump"
	case *v1alpha1.CoreDumpList:
		m["apiVersion"], m["kind"] = v1alpha1.SchemeGroupVersion.String(), "CoreDumpList"
	case *corev1.Pod:
		m["apiVersion"], m["kind"] = "v1", "Pod"
	}
	_ = json.NewEncoder(rw).Encode(m)
}

func refuse(rw http.ResponseWriter, err *apierrors.StatusError) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(int(err.ErrStatus.Code))
	status := err.ErrStatus
	status.APIVersion, status.Kind = "v1", "Status"
	_ = json.NewEncoder(rw).Encode(status)
}

// app is the program as the user has it.
func (w *world) app() *App {
	a := New()
	a.IOStreams = genericiooptions.IOStreams{In: strings.NewReader(""), Out: &w.out, ErrOut: &w.err}
	a.Now = func() time.Time { return now }
	a.Terminal = func(io.Writer) bool { return w.terminal }
	a.Exec = w.exec
	a.Poll = 5 * time.Millisecond
	return a
}

// run runs a command in namespace shop, and gives its exit code.
func (w *world) run(args ...string) int {
	w.t.Helper()
	return w.runIn(w.t.Context(), args...)
}

func (w *world) runIn(ctx context.Context, args ...string) int {
	w.t.Helper()
	w.out.Reset()
	w.err.Reset()
	full := []string{"--server=" + w.http.URL, "--namespace=shop"}
	return w.app().Run(ctx, append(full, args...))
}

// ends fails the test unless the command ends with the code and says all the given, on either stream.
func (w *world) ends(code int, want []string, args ...string) {
	w.t.Helper()
	got := w.run(args...)
	said := w.out.String() + w.err.String()
	if got != code {
		w.t.Errorf("%v ends with %d, want %d:\n%s", args, got, code, said)
	}
	for _, s := range want {
		if !strings.Contains(said, s) {
			w.t.Errorf("%v: want %q in:\n%s", args, s, said)
		}
	}
	for _, r := range said {
		if r != '\n' && r != '\r' && (r < ' ' || r > '~') {
			w.t.Errorf("%v: %q is not safe for a terminal", args, said)
			return
		}
	}
}

func (w *world) files() []string {
	w.t.Helper()
	var names []string
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
