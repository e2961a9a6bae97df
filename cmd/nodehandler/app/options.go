// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/component-base/version/verflag"

	"example.io/coredump/pkg/dumpdir"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/buckets"
)

// options are the flags as they were given.
type options struct {
	store              string
	workers            int
	compression        string
	compressionWorkers int
	maxBackoff         time.Duration
	grace              time.Duration

	template string
	defaults dumpdir.Claim
	settle   time.Duration
	rescan   time.Duration
	maxSize  string

	nodeName, clusterName  string
	kubernetes, kubeconfig string

	kernel kernelOptions

	listen, checkFile string
	logs              *logsapi.LoggingConfiguration
}

// The values of --kubernetes.
const (
	kubernetesAuto     = "auto"
	kubernetesRequired = "required"
	kubernetesOff      = "off"
)

func newOptions() *options {
	return &options{
		store:   os.Getenv("COREDUMP_STORE"),
		workers: 4, compression: "zstd", compressionWorkers: 2, maxBackoff: time.Minute, grace: 25 * time.Second,
		template: "core-%e-%t-%p-%s", settle: 10 * time.Second, rescan: 2 * time.Minute, maxSize: "512Gi",
		nodeName: os.Getenv("NODE_NAME"), clusterName: os.Getenv("CLUSTER_NAME"), kubernetes: kubernetesAuto,
		kernel: newKernelOptions(),
		listen: "127.0.0.1:8081",
		logs:   logsapi.NewLoggingConfiguration(),
	}
}

func (o *options) flags() (nfs cliflag.NamedFlagSets) {
	fs := nfs.FlagSet("store")
	fs.StringVar(&o.store, "store", o.store, "Where dumps go (environment: COREDUMP_STORE). "+buckets.Usage)
	fs.IntVar(&o.workers, "workers", o.workers, "How many dumps are uploaded at a time.")
	fs.StringVar(&o.compression, "compression", o.compression, "How cores are stored that are not compressed yet: zstd, gzip or none.")
	fs.IntVar(&o.compressionWorkers, "compression-workers", o.compressionWorkers, "How many goroutines compress, for each upload.")
	fs.DurationVar(&o.maxBackoff, "retry-max-backoff", o.maxBackoff, "The longest pause before an upload is tried again. Pauses grow from one second, with jitter.")
	fs.DurationVar(&o.grace, "shutdown-grace", o.grace, "How long uploads may go on when the program is told to stop. What is not done by then stays on the node for the next start. "+
		"The pod's terminationGracePeriodSeconds should be longer.")

	fs = nfs.FlagSet("files")
	fs.StringVar(&o.template, "core-name-template", o.template, "How core files are named: a core_pattern without directories, see core(5). What precedes a suffix .gz or .zst must match.")
	fs.StringVar(&o.defaults.Namespace, "default-namespace", "", "Namespace of cores whose path names none.")
	fs.StringVar(&o.defaults.Pod, "default-pod", "", "Pod of cores whose path names none. Empty: the host name (%h) in the name.")
	fs.StringVar(&o.defaults.Container, "default-container", "", "Container of cores whose path names none.")
	fs.DurationVar(&o.settle, "settle", o.settle, "How long a core must be unchanged that is shorter than its ELF header promises, or compressed. "+
		"Six times that where it cannot be told whether somebody has it open for writing (no CAP_LEASE, NFS), and an hour where somebody has.")
	fs.DurationVar(&o.rescan, "rescan-interval", o.rescan, "How often the whole directory is gone through, for what no event told.")
	fs.StringVar(&o.maxSize, "max-size", o.maxSize, "Length of the largest core that is uploaded, holes and compressed zeros counted, such as 512Gi. Of larger ones that the kernel delivers the beginning is kept (--cut-size); larger files are set aside.")

	o.kernel.flags(&nfs)

	fs = nfs.FlagSet("identity")
	fs.StringVar(&o.nodeName, "node-name", o.nodeName, "Name of this node (environment: NODE_NAME). Empty, without Kubernetes: the host name.")
	fs.StringVar(&o.clusterName, "cluster-name", o.clusterName, "Name of the cluster, for buckets of several (environment: CLUSTER_NAME).")
	fs.StringVar(&o.kubernetes, "kubernetes", o.kubernetes, "Whether to ask Kubernetes for UIDs, images, labels and owners: auto (if --kubeconfig is set or this runs in a pod), required or off. Without, "+
		"records lack the namespace's UID, and dumps are shown to those with cluster-wide rights only.")
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "Kubeconfig to use. Empty: that of the pod this runs in.")

	fs = nfs.FlagSet("health")
	fs.StringVar(&o.listen, "listen-address", o.listen, "Where /startupz, /livez, /readyz and /metrics are served, by plain HTTP. Empty: nowhere.")
	fs.StringVar(&o.checkFile, "check-file", "", "File for exec probes. It holds \"alive\" while the program is up and goes on, \"starting\" before that, and \"dead\" otherwise. Empty: none.")

	logsapi.AddFlags(o.logs, nfs.FlagSet("logs"))
	global := nfs.FlagSet("global")
	verflag.AddFlags(global)
	global.BoolP("help", "h", false, "Print this help.")
	return nfs
}

// config is what the flags mean.
type config struct {
	*options
	dir      string
	template *dumpdir.Template
	codec    storage.Codec
	maxSize  int64
	limits   limits
}

// validate reports all problems at once.
func (o *options) validate(args []string) (*config, error) {
	var problems []error
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	c := &config{options: o}
	if len(args) == 1 && args[0] != "" {
		c.dir = args[0]
	} else {
		add("DIRECTORY is missing: the one argument must be the directory to watch")
	}
	if o.store == "" {
		add("--store is missing: must be the URL of the store, such as s3://bucket/prefix or file:///path")
	}
	var err error
	if c.template, err = dumpdir.ParseTemplate(o.template); err != nil {
		add("--core-name-template %w", err)
	}
	if c.codec, err = storage.ParseCodec(o.compression); err != nil {
		add("--compression: %w", err)
	}
	if size, err := resource.ParseQuantity(o.maxSize); err != nil || size.Value() < 1 {
		add("--max-size %q: must be a positive number of bytes, such as 512Gi", o.maxSize)
	} else {
		c.maxSize = size.Value()
	}
	for _, n := range []struct {
		flag      string
		value, to int
	}{{"--workers", o.workers, 64}, {"--compression-workers", o.compressionWorkers, 64}} {
		if n.value < 1 || n.value > n.to {
			add("%s %d: must be from 1 to %d", n.flag, n.value, n.to)
		}
	}
	for _, d := range []struct {
		flag         string
		value, least time.Duration
	}{
		{"--settle", o.settle, 10 * time.Millisecond}, {"--rescan-interval", o.rescan, time.Second},
		{"--retry-max-backoff", o.maxBackoff, 100 * time.Millisecond}, {"--shutdown-grace", o.grace, 0},
	} {
		if d.value < d.least {
			add("%s %v: must be %v or more", d.flag, d.value, d.least)
		}
	}
	for _, n := range []struct {
		flag, value, allowed string
		valid                func(string) bool
	}{
		{"--default-namespace", o.defaults.Namespace, "a DNS label of at most 63 characters", storage.ValidNamespace},
		{"--default-pod", o.defaults.Pod, "a DNS subdomain of at most 253 characters", storage.ValidPod},
		{"--default-container", o.defaults.Container, "a DNS label of at most 63 characters", storage.ValidContainer},
	} {
		if n.value != "" && !n.valid(n.value) {
			add("%s %q: must be %s", n.flag, n.value, n.allowed)
		}
	}
	c.limits = o.kernel.validate(add)
	switch o.kubernetes {
	case kubernetesAuto, kubernetesRequired:
	case kubernetesOff:
		if o.kubeconfig != "" {
			add("--kubernetes=off and --kubeconfig %q contradict each other", o.kubeconfig)
		}
	default:
		add("--kubernetes %q: must be auto, required or off", o.kubernetes)
	}
	return c, utilerrors.NewAggregate(problems)
}
