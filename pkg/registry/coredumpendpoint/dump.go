// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package coredumpendpoint

import (
	"context"
	"net/http"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/download"
)

var (
	_ rest.Storage         = (*DumpREST)(nil)
	_ rest.Connecter       = (*DumpREST)(nil)
	_ rest.StorageMetadata = (*DumpREST)(nil)
)

// DumpREST serves coredumpendpoints/dump and coredumpendpoints/proxy: the bytes of the dumps of one pod name.
type DumpREST struct {
	download.Methods
	endpoints *REST
	downloads *download.Server
}

// NewDumpREST makes the storage.
func NewDumpREST(endpoints *REST, downloads *download.Server) *DumpREST {
	return &DumpREST{endpoints: endpoints, downloads: downloads}
}

// New gives an empty object, for discovery.
func (*DumpREST) New() runtime.Object { return &v1alpha1.CoreDumpEndpoint{} }

// Connect gives the handler of one request.
func (r *DumpREST) Connect(ctx context.Context, name string, _ runtime.Object, responder rest.Responder) (http.Handler, error) {
	return r.downloads.Handler(download.Object{
		Resource:  resource,
		Namespace: request.NamespaceValue(ctx),
		Name:      name,
		Params:    download.Params{download.ParamContainer, download.ParamUID, download.ParamSince, download.ParamLatest},
		Select: func(ctx context.Context, q download.Query) ([]*v1alpha1.CoreDump, error) {
			c := newChooser(q, name)
			for l, err := range r.endpoints.dumps(ctx, name) {
				if err == nil {
					err = c.add(l.Record, l.Size)
				}
				if err != nil {
					return nil, err
				}
			}
			return c.chosen()
		},
	}, responder), nil
}
