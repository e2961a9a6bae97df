// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"example.io/coredump/test/cluster"
	"example.io/coredump/test/crash"
)

const (
	namespace = "shop"
	pod       = "checkout"
	container = "app"

	// setUpTime is generous: kube-apiserver is ready after seconds on an idle machine.
	setUpTime = 3 * time.Minute
)

// demo is what runs, and who looks at it.
type demo struct {
	dir     string
	out     io.Writer
	cluster *cluster.Cluster
	store   *cluster.Store
	system  *cluster.System
	handler *cluster.NodeHandler
	program string
	// alice may download the dumps of the namespace, mallory those of another one.
	alice, mallory string
}

// setUp brings everything up that a cluster's administrator would.
func (d *demo) setUp(ctx context.Context) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("setting /proc/sys/kernel/core_pattern needs root: run it as root, or under sudo -E")
	}
	repo, err := os.Getwd()
	if err != nil {
		return err
	}
	var missing []error
	need := func(name string) string {
		v := os.Getenv(name)
		if v == "" {
			missing = append(missing, fmt.Errorf("%s is not set (make demo sets it)", name))
		}
		return v
	}
	bin, assets, s3 := need("COREDUMP_BIN"), need("COREDUMP_CONTROLPLANE"), need("COREDUMP_S3SERVER")
	if len(missing) > 0 {
		return errors.Join(missing...)
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, setUpTime, fmt.Errorf("not up after %s", setUpTime))
	defer cancel()

	d.say("Bringing up etcd, kube-apiserver, an S3 server and our programs below %s", d.dir)
	if d.cluster, err = cluster.Start(ctx, cluster.Options{Dir: d.dir, Assets: assets}); err != nil {
		return err
	}
	if d.store, err = cluster.StartStore(ctx, filepath.Join(d.dir, "s3"), s3, filepath.Join(repo, "artifacts", "s3", "bucket-policy.json")); err != nil {
		return err
	}
	if d.system, err = cluster.Install(ctx, d.cluster, d.store, bin, repo); err != nil {
		return err
	}
	if _, err = d.system.StartAPIServer(ctx); err != nil {
		return err
	}
	if d.handler, err = d.system.StartNodeHandler(ctx, d.mkdir("dumps"), "--settle=2s"); err != nil {
		return err
	}
	if d.program, err = crash.Build(repo, d.mkdir("bin")); err != nil {
		return err
	}
	return d.tenants(ctx)
}

// tenants makes two namespaces, a pod, and two users with the role coredump-downloader in one namespace each.
func (d *demo) tenants(ctx context.Context) (err error) {
	admin := func(args ...string) {
		if err == nil {
			_, err = d.cluster.Kubectl(ctx, d.cluster.Admin, args...)
		}
	}
	for user, ns := range map[string]string{"alice": namespace, "mallory": "office"} {
		admin("create", "namespace", ns)
		admin("create", "rolebinding", "-n", ns, user, "--clusterrole=coredump-downloader", "--user="+user)
	}
	admin("run", pod, "-n", namespace, "--image=shop/checkout:1.4", "--labels=app=checkout",
		"--overrides={\"spec\":{\"nodeName\":\"node-1\",\"containers\":[{\"name\":\""+container+"\",\"image\":\"shop/checkout:1.4\"}]}}")
	if err != nil {
		return err
	}
	if d.alice, err = d.cluster.Kubeconfig("alice"); err != nil {
		return err
	}
	d.mallory, err = d.cluster.Kubeconfig("mallory")
	return err
}

func (d *demo) mkdir(name string) string {
	path := filepath.Join(d.dir, name)
	_ = os.MkdirAll(path, 0o755) // whoever uses it says what is wrong
	return path
}

// stop ends everything, in the opposite order.
func (d *demo) stop() {
	if d.system != nil {
		d.system.Stop()
	}
	if d.store != nil {
		d.store.Kill()
	}
	if d.cluster != nil {
		d.cluster.Stop()
	}
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "\n# "+format+"\n", args...)
}
