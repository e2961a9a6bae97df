// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"

	"example.io/coredump/pkg/storage/buckets"
)

// options are the flags. Of the generic API server's options only those are here that a server without etcd and without admission
// has a use for.
type options struct {
	store string

	maxConcurrentDownloads int
	maxDownloadsPerUser    int
	compressWorkers        int
	stallTimeout           time.Duration
	presignTTL             time.Duration
	drainTimeout           time.Duration
	shutdownDelay          time.Duration
	storeGrace             time.Duration
	watchInterval          time.Duration
	recordCacheSize        string
	profiling              bool

	serving        *genericoptions.SecureServingOptionsWithLoopback
	authentication *genericoptions.DelegatingAuthenticationOptions
	authorization  *genericoptions.DelegatingAuthorizationOptions
	audit          *genericoptions.AuditOptions
	coreAPI        *genericoptions.CoreAPIOptions
	logs           *logsapi.LoggingConfiguration
}

func newOptions() *options {
	o := &options{
		store:                  os.Getenv("COREDUMP_STORE"),
		maxConcurrentDownloads: 32,
		compressWorkers:        2,
		stallTimeout:           time.Minute,
		drainTimeout:           5 * time.Minute,
		shutdownDelay:          5 * time.Second,
		storeGrace:             30 * time.Second,
		watchInterval:          5 * time.Second,
		recordCacheSize:        "128Mi",
		serving:                genericoptions.NewSecureServingOptions().WithLoopback(),
		authentication:         genericoptions.NewDelegatingAuthenticationOptions(),
		authorization:          genericoptions.NewDelegatingAuthorizationOptions(),
		audit:                  genericoptions.NewAuditOptions(),
		coreAPI:                genericoptions.NewCoreAPIOptions(),
		logs:                   logsapi.NewLoggingConfiguration(),
	}
	o.serving.BindPort = 8443 // not below 1024: the server runs as nobody
	// A certificate that is made for want of one stays in memory: the root file system is read-only.
	o.serving.ServerCert.CertDirectory = ""
	// kube-apiserver sends all requests over one connection, downloads too.
	o.serving.HTTP2MaxStreamsPerConnection = 1000
	return o
}

func (o *options) flags() (nfs cliflag.NamedFlagSets) {
	fs := nfs.FlagSet("store")
	fs.StringVar(&o.store, "store", o.store, "Where the dumps are (environment: COREDUMP_STORE). "+buckets.Usage)
	fs.DurationVar(&o.storeGrace, "store-start-timeout", o.storeGrace, "How long after the start the server waits for the store before it reports ready without it. "+
		"Later the store has no influence on readiness, so that discovery does not break when the store is away.")

	fs = nfs.FlagSet("lists")
	fs.DurationVar(&o.watchInterval, "watch-interval", o.watchInterval, "How often the store is listed while somebody watches. It is listed less often where that takes long, so "+
		"that it takes a tenth of the time at most.")
	fs.StringVar(&o.recordCacheSize, "record-cache-size", o.recordCacheSize, "How much memory records may take that are kept so that they need not be read again. "+
		"A record takes some 4Ki.")

	fs = nfs.FlagSet("downloads")
	fs.IntVar(&o.maxConcurrentDownloads, "max-concurrent-downloads", o.maxConcurrentDownloads,
		"How many downloads may run at a time. More are answered with 429 and Retry-After. A range counts like a whole download.")
	fs.IntVar(&o.maxDownloadsPerUser, "max-concurrent-downloads-per-user", o.maxDownloadsPerUser,
		"How many of them may be one user's, so that nobody takes all. More are answered in the same way. 0 means all but a quarter of --max-concurrent-downloads.")
	fs.IntVar(&o.compressWorkers, "compress-workers", o.compressWorkers, "How many goroutines compress, for each download. Each takes a few MiB of memory.")
	fs.DurationVar(&o.stallTimeout, "stall-timeout", o.stallTimeout, "Abort a download whose client takes nothing, or whose store gives nothing, for this long.")
	fs.DurationVar(&o.presignTTL, "presign-ttl", o.presignTTL, "For how long a URL of a stored core can be used that coredumps/presign gives, to who may create it and get dump, "+
		"at most 1h. Whoever has the URL has the core, without being asked again. 0 means that there is no presign. Only stores of s3 have URLs.")

	fs = nfs.FlagSet("shutdown")
	fs.DurationVar(&o.drainTimeout, "drain-timeout", o.drainTimeout, "How long downloads that run when the server is told to stop may go on. "+
		"The pod's terminationGracePeriodSeconds should be longer than this and --shutdown-delay together.")
	fs.DurationVar(&o.shutdownDelay, "shutdown-delay", o.shutdownDelay, "How long the server goes on accepting requests after it was told to stop, while /readyz fails already.")

	o.serving.AddFlags(nfs.FlagSet("secure serving"))
	o.coreAPI.AddFlags(nfs.FlagSet("core API"))
	o.authentication.AddFlags(nfs.FlagSet("authentication"))
	o.authorization.AddFlags(nfs.FlagSet("authorization"))
	o.audit.AddFlags(nfs.FlagSet("auditing"))
	logsapi.AddFlags(o.logs, nfs.FlagSet("logs"))

	global := nfs.FlagSet("global")
	global.BoolVar(&o.profiling, "profiling", o.profiling, "Serve /debug/pprof, to who is authorized for it.")
	global.Bool("version", false, "Print the version.")
	global.BoolP("help", "h", false, "Print this help.")
	return nfs
}

const (
	minWatchInterval = 100 * time.Millisecond
	maxWatchInterval = time.Hour
	maxRecordCache   = 64 << 30
)

func (o *options) cacheBytes() (int64, error) {
	q, err := resource.ParseQuantity(o.recordCacheSize)
	return q.Value(), err
}

// downloadsPerUser follows the limit for all unless it is given: a default of its own would be no limit where that for all is lower. It leaves some to others, and of the
// 8 in the manifests more than the 4 that kubectl coredump asks for at a time: a place is free a moment after the client has the last byte.
func (o *options) downloadsPerUser() int {
	if o.maxDownloadsPerUser > 0 {
		return o.maxDownloadsPerUser
	}
	return max(o.maxConcurrentDownloads-max(o.maxConcurrentDownloads/4, 1), 1)
}

// validate reports all problems at once.
func (o *options) validate() error {
	var problems []error
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if o.store == "" {
		add("--store is missing: must be the URL of the store, such as s3://bucket/prefix or file:///path")
	}
	if o.maxConcurrentDownloads < 1 {
		add("--max-concurrent-downloads %d: must be 1 or more", o.maxConcurrentDownloads)
	}
	if o.maxDownloadsPerUser < 0 {
		add("--max-concurrent-downloads-per-user %d: must be 0 or more", o.maxDownloadsPerUser)
	}
	if o.compressWorkers < 1 || o.compressWorkers > 64 {
		add("--compress-workers %d: must be from 1 to 64", o.compressWorkers)
	}
	if o.watchInterval < minWatchInterval || o.watchInterval > maxWatchInterval {
		add("--watch-interval %v: must be from %v to %v", o.watchInterval, minWatchInterval, maxWatchInterval)
	}
	if n, err := o.cacheBytes(); err != nil {
		add("--record-cache-size %q: %v", o.recordCacheSize, err)
	} else if n < 0 || n > maxRecordCache {
		add("--record-cache-size %s: must be from 0 to 64Gi", o.recordCacheSize)
	}
	if o.stallTimeout < time.Second {
		add("--stall-timeout %v: must be 1s or more", o.stallTimeout)
	}
	if o.presignTTL != 0 && (o.presignTTL < 10*time.Second || o.presignTTL > time.Hour || o.presignTTL%time.Second != 0) {
		add("--presign-ttl %v: must be 0, or whole seconds from 10s to 1h", o.presignTTL)
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{{"--drain-timeout", o.drainTimeout}, {"--shutdown-delay", o.shutdownDelay}, {"--store-start-timeout", o.storeGrace}} {
		if d.value < 0 {
			add("%s %v: must be 0 or more", d.flag, d.value)
		}
	}
	problems = append(problems, o.serving.Validate()...)
	problems = append(problems, o.coreAPI.Validate()...)
	problems = append(problems, o.authentication.Validate()...)
	problems = append(problems, o.authorization.Validate()...)
	problems = append(problems, o.audit.Validate()...)
	return utilerrors.NewAggregate(problems)
}
