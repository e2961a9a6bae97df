// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"

	"example.io/coredump/pkg/apis/coredump"
	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/access"
	dumps "example.io/coredump/pkg/registry/coredump"
	endpoints "example.io/coredump/pkg/registry/coredumpendpoint"
	"example.io/coredump/pkg/registry/download"
	"example.io/coredump/pkg/registry/unreadable"
	"example.io/coredump/pkg/registry/watching"
	"example.io/coredump/pkg/storage"
)

// Config is what a server is made of.
type Config struct {
	// Generic comes from NewGenericConfig and has listener, authentication and authorization by now.
	Generic *genericapiserver.RecommendedConfig
	// Bucket is where the dumps are.
	Bucket storage.Bucket
	// Namespaces tells which namespaces live.
	Namespaces access.Namespaces

	// MaxConcurrentDownloads is how many downloads may run at a time.
	MaxConcurrentDownloads int
	// MaxDownloadsPerUser is how many of them may be one user's.
	MaxDownloadsPerUser int
	// StallTimeout is how long a client may take nothing, or the store give nothing, before a download is aborted.
	StallTimeout time.Duration
	// CompressWorkers is how many goroutines compress, for each download.
	CompressWorkers int
	// PresignTTL is for how long URLs of stored objects are given out; 0 where there are none. The bucket must be a storage.Presigner for more.
	PresignTTL time.Duration
	// DrainTimeout is how long downloads that run at the shutdown may go on.
	DrainTimeout time.Duration
	// WatchInterval is the time between two looks at the store while somebody watches.
	WatchInterval time.Duration
	// RecordCacheSize bounds the memory for records that are kept, in bytes.
	RecordCacheSize int64
	// StoreGrace is how long after the start the server waits for the store before it is ready without it.
	StoreGrace time.Duration
	// Now is the clock; nil means the real one.
	Now func() time.Time
}

// New makes the server. It has not begun to listen yet.
func New(c Config) (*genericapiserver.GenericAPIServer, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if _, ok := c.Bucket.(storage.Presigner); !ok && c.PresignTTL > 0 {
		return nil, errors.New("URLs of stored objects are asked for, and this store has none: only s3 does")
	}
	server, err := c.Generic.Complete().New("coredump-apiserver", genericapiserver.NewEmptyDelegate())
	if err != nil {
		return nil, err
	}
	// Long-running requests are not among those that the server waits for at its shutdown; only the HTTP server itself does, for this
	// long.
	server.ShutdownTimeout = c.DrainTimeout

	bucket := observe(c.Bucket)
	group := genericapiserver.NewDefaultAPIGroupInfo(coredump.GroupName, Scheme, metav1.ParameterCodec, Codecs)
	stored := storage.NewDumps(bucket)
	stored.LimitCache(c.RecordCacheSize)
	group.VersionedResourcesStorageMap[v1alpha1.SchemeGroupVersion.Version] = c.resources(stored.Known())
	if err := server.InstallAPIGroup(&group); err != nil {
		return nil, err
	}
	return server, c.addStoreCheck(server, bucket)
}

func (c Config) resources(store storage.Known) map[string]rest.Storage {
	authorizer := c.Generic.Authorization.Authorizer
	rule := access.NewRule(c.Namespaces, authorizer)
	reporter := unreadable.NewReporter()
	downloads := download.NewServer(download.Config{
		Cores:         store,
		Authorizer:    authorizer,
		MaxConcurrent: c.MaxConcurrentDownloads,
		MaxPerUser:    c.MaxDownloadsPerUser,
		StallTimeout:  c.StallTimeout,
		Workers:       c.CompressWorkers,
		Now:           c.Now,
	})
	hub := watching.NewHub(watching.Config{Source: store, Interval: c.WatchInterval, LivingUID: rule.LivingUID, Unreadable: reporter.Report})
	dump := dumps.NewREST(store, rule, reporter, hub, c.Now)
	endpoint := endpoints.NewREST(store, rule, reporter, hub, c.Now)
	resources := map[string]rest.Storage{
		"coredumps":               dump,
		"coredumps/dump":          dumps.NewDumpREST(dump, downloads),
		"coredumps/proxy":         dumps.NewDumpREST(dump, downloads),
		"coredumpendpoints":       endpoint,
		"coredumpendpoints/dump":  endpoints.NewDumpREST(endpoint, downloads),
		"coredumpendpoints/proxy": endpoints.NewDumpREST(endpoint, downloads),
	}
	if c.PresignTTL > 0 {
		resources["coredumps/presign"] = dumps.NewPresignREST(dump, store, authorizer, c.PresignTTL)
	}
	return resources
}
