// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package download

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/slots"
	"example.io/coredump/pkg/registry/status"
	"example.io/coredump/pkg/storage"
)

// Cores opens cores, and what is beside them; storage.Known does. The readers must fail where the bytes are not those of the record.
type Cores interface {
	OpenCore(ctx context.Context, record *v1alpha1.CoreDump) (io.ReadCloser, error)
	// OpenCoreRange opens length bytes of a core whose CheckBody says that it is seekable.
	OpenCoreRange(ctx context.Context, record *v1alpha1.CoreDump, offset, length int64) (io.ReadCloser, error)
	// OpenBody opens length of the stored bytes of a core.
	OpenBody(ctx context.Context, record *v1alpha1.CoreDump, offset, length int64) (io.ReadCloser, error)
	// CheckBody compares the stored object of a core with the record, as far as that is possible without reading it.
	CheckBody(ctx context.Context, record *v1alpha1.CoreDump) (storage.BodyInfo, error)
	// OpenContext opens the context bundle of a record that has one.
	OpenContext(ctx context.Context, record *v1alpha1.CoreDump) (io.ReadCloser, error)
}

// Config is what all downloads have in common.
type Config struct {
	Cores Cores
	// Authorizer is asked for the right to dump where a request comes by the subresource proxy.
	Authorizer authorizer.UnconditionalAuthorizer
	// MaxConcurrent is how many downloads may run at a time, and MaxPerUser how many of one user. A range counts like the whole.
	MaxConcurrent, MaxPerUser int
	// StallTimeout is how long a client may take no byte, and the store give none, before the download is aborted.
	StallTimeout time.Duration
	// Workers is how many goroutines compress, for each download. Each takes a few MiB.
	Workers int
	// Now is the clock that spans of time count back from.
	Now func() time.Time
}

// Server runs downloads, a limited number at a time. Safe for concurrent use.
type Server struct {
	Config
	slots   *slots.Slots
	bundles *bundles
}

// NewServer makes a server.
func NewServer(c Config) *Server {
	registerMetrics()
	return &Server{
		Config:  c,
		slots:   slots.New(c.MaxConcurrent, c.MaxPerUser),
		bundles: newBundles(c.Cores),
	}
}

// full is the Status of who gets no slot.
func (s *Server) full(err error) error {
	if errors.Is(err, slots.ErrUser) {
		return status.TooManyDownloadsOfUser(s.MaxPerUser)
	}
	return status.TooManyDownloads(s.MaxConcurrent)
}

// Object is what is asked for, an object of the API.
type Object struct {
	Resource        schema.GroupResource
	Namespace, Name string
	// Params are the parameters that the resource understands besides format.
	Params Params
	// Select gives the dumps that the query asks for and that the user of ctx may see, at least one. ctx has the namespace.
	Select func(ctx context.Context, q Query) ([]*v1alpha1.CoreDump, error)
}

// Handler answers one request. The responder gets every error that can still be told.
func (s *Server) Handler(object Object, responder rest.Responder) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		t := &transfer{server: s, object: object, start: time.Now(), format: "none"}
		// The generic API server gives the namespace to Connect, but not with the request.
		req = req.WithContext(request.WithNamespace(req.Context(), object.Namespace))
		err := t.serve(w, req)
		t.record(req.Context(), err)
		switch {
		case err == nil:
		case t.committed:
			// The only way to tell the client now. The generic API server passes it on to net/http.
			panic(http.ErrAbortHandler)
		default:
			responder.Error(err)
		}
	})
}

// Methods is the part of rest.Storage and rest.Connecter that all subresources have in common.
type Methods struct{}

// Destroy has nothing to release.
func (Methods) Destroy() {}

// ConnectMethods are the methods that are served. For RBAC both are the verb get.
func (Methods) ConnectMethods() []string { return []string{http.MethodGet, http.MethodHead} }

// NewConnectOptions has no options type and no path below: ParseQuery understands the query.
func (Methods) NewConnectOptions() (runtime.Object, bool, string) { return nil, false, "" }

// ProducesMIMETypes is for the API's documentation.
func (Methods) ProducesMIMETypes(string) []string {
	var types []string
	for _, f := range formats {
		if !slices.Contains(types, f.MediaType) {
			types = append(types, f.MediaType)
		}
	}
	return types
}

// ProducesObject is for the API's documentation.
func (Methods) ProducesObject(string) any { return "" }
