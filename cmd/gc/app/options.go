// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/common/model"
	"k8s.io/apimachinery/pkg/api/resource"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"

	"example.io/coredump/pkg/retention"
)

// minDuration bounds what rules can be given from below. It covers clocks that differ a little and uploads that are under way, and
// whoever writes 30m and means months.
const minDuration = time.Hour

// options are the flags as they were given. Durations and sizes stay strings until config, so that all problems are reported at once.
type options struct {
	store, kubeconfig, clusterName, policyFile  string
	maxAge, orphanGrace, uploadGrace, goneGrace string
	maxBytesPerNamespace, maxBytes              string
	keepLast, maxPerContainer                   int
	dryRun                                      bool
	timeout                                     time.Duration
	metricsTextfile, pushGateway                string
	logs                                        *logsapi.LoggingConfiguration
}

func newOptions() *options {
	return &options{
		store:       os.Getenv("COREDUMP_STORE"),
		clusterName: os.Getenv("CLUSTER_NAME"),
		maxAge:      "0", orphanGrace: "24h", uploadGrace: "24h", goneGrace: "0",
		maxBytesPerNamespace: "0", maxBytes: "0",
		timeout: time.Hour,
		logs:    logsapi.NewLoggingConfiguration(),
	}
}

func (o *options) flags() (nfs cliflag.NamedFlagSets) {
	fs := nfs.FlagSet("store")
	fs.StringVar(&o.store, "store", o.store, "URL of the store, as above (environment: COREDUMP_STORE).")

	fs = nfs.FlagSet("rules")
	fs.StringVar(&o.maxAge, "max-age", o.maxAge, "Remove dumps that are older.")
	fs.IntVar(&o.keepLast, "keep-last", o.keepLast, "Spare the newest dumps of every container, this many, from --max-age. The other rules spare nothing.")
	fs.IntVar(&o.maxPerContainer, "max-per-container", o.maxPerContainer, "Keep this many dumps of every container, the newest.")
	fs.StringVar(&o.maxBytesPerNamespace, "max-bytes-per-namespace", o.maxBytesPerNamespace, "Remove the oldest dumps of a namespace until what it stores fits. A dump that is larger than this goes first.")
	fs.StringVar(&o.maxBytes, "max-bytes", o.maxBytes, "Remove the oldest dumps until what is stored in all fits. A dump that is larger than this goes first.")
	fs.StringVar(&o.orphanGrace, "orphan-grace", o.orphanGrace, "Remove bodies without a record and records without a body that are older. Choose more than the longest upload.")
	fs.StringVar(&o.uploadGrace, "unfinished-upload-grace", o.uploadGrace, "Remove unfinished uploads that are older. Choose more than the longest upload.")
	fs.StringVar(&o.goneGrace, "gone-namespace-grace", o.goneGrace, "Remove the dumps of a namespace that is gone, or that was made again, this long after the last sign of it: "+
		"its newest dump or, where it was made again, the beginning of the new one. Needs to list namespaces and to read records.")
	fs.StringVar(&o.clusterName, "cluster-name", o.clusterName, "Name of this cluster, as the node handler has it (environment: CLUSTER_NAME). "+
		"--gone-namespace-grace leaves the dumps of other clusters in the same bucket alone.")
	fs.StringVar(&o.policyFile, "config", o.policyFile, "YAML file with limits of single namespaces: namespaces: {NAME: {maxAge, keepLast, maxPerContainer, maxBytes}}. "+
		"What is left out there is as the flags say; what is there holds, be it more or less than the flags.")

	fs = nfs.FlagSet("run")
	fs.BoolVar(&o.dryRun, "dry-run", o.dryRun, "Print what would be removed, and why, and remove nothing.")
	fs.DurationVar(&o.timeout, "timeout", o.timeout, "Stop after this time; 0 means never. The next run goes on.")
	fs.StringVar(&o.kubeconfig, "kubeconfig", o.kubeconfig, "How to reach the API server, for --gone-namespace-grace. Empty means the cluster that gc runs in.")

	fs = nfs.FlagSet("metrics")
	fs.StringVar(&o.metricsTextfile, "metrics-textfile", o.metricsTextfile, "Write metrics to this file, which must end in .prom, for the node exporter's textfile collector.")
	fs.StringVar(&o.pushGateway, "push-gateway", o.pushGateway, "Push metrics to the Prometheus Pushgateway at this URL, job coredump-gc.")

	logsapi.AddFlags(o.logs, nfs.FlagSet("logs"))
	global := nfs.FlagSet("global")
	global.Bool("version", false, "Print the version.")
	global.BoolP("help", "h", false, "Print this help.")
	return nfs
}

// config is what the options mean, but for --store, which is the bucket's own business.
type config struct {
	kubeconfig                   string
	policy                       retention.Policy
	dryRun                       bool
	timeout                      time.Duration
	metricsTextfile, pushGateway string
}

// config checks the options, reads the policy file, and reports all problems at once.
func (o *options) config() (*config, error) {
	var p problems
	c := &config{
		kubeconfig: o.kubeconfig, dryRun: o.dryRun, timeout: o.timeout,
		metricsTextfile: o.metricsTextfile, pushGateway: o.pushGateway,
		policy: retention.Policy{
			Cluster: o.clusterName,
			Limits: retention.Limits{
				MaxAge:          p.duration("--max-age", o.maxAge),
				KeepLast:        p.count("--keep-last", o.keepLast),
				MaxPerContainer: p.count("--max-per-container", o.maxPerContainer),
				MaxBytes:        p.bytes("--max-bytes-per-namespace", o.maxBytesPerNamespace),
			},
			TotalBytes:  p.bytes("--max-bytes", o.maxBytes),
			OrphanGrace: p.duration("--orphan-grace", o.orphanGrace),
			UploadGrace: p.duration("--unfinished-upload-grace", o.uploadGrace),
			GoneGrace:   p.duration("--gone-namespace-grace", o.goneGrace),
		},
	}
	p.limits("--max-per-container", "--keep-last", c.policy.Limits)
	if o.timeout < 0 {
		p.add("--timeout %v: must be 0 or more", o.timeout)
	}
	if o.metricsTextfile != "" && filepath.Ext(o.metricsTextfile) != ".prom" {
		p.add("--metrics-textfile %q: must end in .prom, the textfile collector reads no other files", o.metricsTextfile)
	}
	if u, err := url.Parse(o.pushGateway); o.pushGateway != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		p.add("--push-gateway %q: must be an http or https URL", o.pushGateway)
	}
	if o.policyFile != "" {
		c.policy.Namespaces = p.overrides(o.policyFile, c.policy.Limits)
	}
	return c, errors.Join(p...)
}

// problems collects what is wrong. Its methods return the zero value for what they refuse.
type problems []error

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Errorf(format, args...)) }

func (p *problems) duration(name, s string) time.Duration {
	d, err := model.ParseDuration(s)
	switch {
	case err != nil:
		p.add("%s %q: must be a duration such as 30d, 12h or 1d12h, or 0 to turn the rule off", name, s)
		return 0
	case d != 0 && time.Duration(d) < minDuration:
		p.add("%s %s: must be at least %v, or 0 to turn the rule off", name, s, model.Duration(minDuration))
	}
	return time.Duration(d)
}

func (p *problems) bytes(name, s string) int64 {
	q, err := resource.ParseQuantity(s)
	if err != nil || q.Sign() < 0 || q.CmpInt64(math.MaxInt64) > 0 {
		p.add("%s %q: must be a number of bytes such as 500Mi or 20Gi, or 0 to turn the rule off", name, s)
		return 0
	}
	return q.Value()
}

func (p *problems) count(name string, n int) int {
	if n < 0 {
		p.add("%s %d: must be 0 or more", name, n)
	}
	return n
}

// limits refuses what contradicts itself.
func (p *problems) limits(maxName, keepName string, l retention.Limits) {
	if l.MaxPerContainer > 0 && l.KeepLast > l.MaxPerContainer {
		p.add("%s %d: must be at least the %d of %s", maxName, l.MaxPerContainer, l.KeepLast, keepName)
	}
}
