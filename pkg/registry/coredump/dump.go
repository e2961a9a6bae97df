// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package coredump

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

// DumpREST serves coredumps/dump and coredumps/proxy: the bytes of one dump.
type DumpREST struct {
	download.Methods
	dumps     *REST
	downloads *download.Server
}

// NewDumpREST makes the storage.
func NewDumpREST(dumps *REST, downloads *download.Server) *DumpREST {
	return &DumpREST{dumps: dumps, downloads: downloads}
}

// New gives an empty object, for discovery.
func (*DumpREST) New() runtime.Object { return &v1alpha1.CoreDump{} }

// Connect gives the handler of one request.
func (r *DumpREST) Connect(ctx context.Context, name string, _ runtime.Object, responder rest.Responder) (http.Handler, error) {
	return r.downloads.Handler(download.Object{
		Resource:  resource,
		Namespace: request.NamespaceValue(ctx),
		Name:      name,
		Select: func(ctx context.Context, _ download.Query) ([]*v1alpha1.CoreDump, error) {
			d, err := r.dumps.find(ctx, name)
			if err != nil {
				return nil, err
			}
			return []*v1alpha1.CoreDump{d}, nil
		},
	}, responder), nil
}
