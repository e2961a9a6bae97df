// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/test/cluster"
)

const (
	// listNamespaces is how many namespaces have the dumps, and as many objects in etcd.
	listNamespaces = 10
	// dumpsPerPod is how many dumps a pod has. They are in one directory of the store.
	dumpsPerPod = 10
	// repeats is how often a list is repeated, by each in turn.
	repeats = 5
	// listPatience bounds all of it.
	listPatience = 30 * time.Minute
	// creators is how many objects are created in etcd at a time.
	creators = 16
)

// lists is how long lists of some number of dumps take.
type lists struct {
	one      time.Duration // kubectl get of one namespace, right after the server has started
	first    time.Duration // of all, right after that
	repeated time.Duration // of all
	whole    time.Duration // the same as JSON, in one piece
	etcd     time.Duration // kubectl get of as many ConfigMaps of the size of a record
	aws      time.Duration // aws s3 ls --recursive
	peakMiB  float64       // of apiserver
}

// lists has kubectl list n dumps, of one namespace and of all, through kube-apiserver, once a round for each n.
func (r *round) lists(ctx context.Context, n int) (l lists, err error) {
	if l, ok := r.listed[n]; ok {
		return l, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, listPatience, fmt.Errorf("not listed within %s", listPatience))
	defer cancel()
	if err := r.emptyStore(); err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, r.emptyStore()) }()
	progress("writing %d records", n)
	size, err := r.plant(n)
	if err != nil {
		return l, err
	}
	c, err := r.startControl(ctx, 0)
	defer c.stop()
	if err != nil {
		return l, err
	}
	progress("creating %d objects of %d bytes in etcd", n, size)
	if err := createObjects(ctx, c.Cluster, n, size); err != nil {
		return l, err
	}
	server, err := c.system.StartAPIServer(ctx)
	if err != nil {
		return l, err
	}
	if err := l.measure(ctx, r, c.Cluster, n); err != nil {
		return l, fmt.Errorf("%w\n%s", err, server.Tail())
	}
	if l.peakMiB, err = peakMiB(server.PID()); err != nil {
		return l, err
	}
	progress("%d dumps: first of one namespace %.2fs, of all %.2fs, repeated %.2fs, as JSON in one piece %.2fs, etcd %.2fs, aws s3 ls %.2fs; apiserver %.1f MiB", n,
		l.one.Seconds(), l.first.Seconds(), l.repeated.Seconds(), l.whole.Seconds(), l.etcd.Seconds(), l.aws.Seconds(), l.peakMiB)
	if r.listed == nil {
		r.listed = map[int]lists{}
	}
	r.listed[n] = l
	return l, nil
}

func (l *lists) measure(ctx context.Context, r *round, c *cluster.Cluster, n int) (err error) {
	if l.one, err = timedGet(ctx, c, n/listNamespaces, "coredumps", "-n", listNamespace(0)); err != nil {
		return err
	}
	dumps := func() (time.Duration, error) { return timedGet(ctx, c, n, "coredumps", "-A") }
	if l.first, err = dumps(); err != nil {
		return err
	}
	var ours, theirs []time.Duration
	for range repeats {
		took, err := dumps()
		if err != nil {
			return err
		}
		ours = append(ours, took)
		if took, err = timedGet(ctx, c, n, "configmaps", "-A", "-l", "bench"); err != nil {
			return err
		}
		theirs = append(theirs, took)
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	l.repeated, l.etcd = ours[repeats/2], theirs[repeats/2]
	start := time.Now()
	if _, err := c.Kubectl(ctx, c.Admin, "get", "--raw", "/apis/coredump.example.io/v1alpha1/coredumps"); err != nil {
		return err
	}
	l.whole = time.Since(start)
	l.aws, err = r.awsList(ctx, n)
	return err
}

// listNamespace is the name of one of the namespaces.
func listNamespace(i int) string { return fmt.Sprintf("lists-%d", i) }

// timedGet has kubectl print n objects, which it fetches in pages of 500, as it does.
func timedGet(ctx context.Context, c *cluster.Cluster, n int, args ...string) (time.Duration, error) {
	start := time.Now()
	out, err := c.Kubectl(ctx, c.Admin, append([]string{"get", "--no-headers"}, args...)...)
	if err != nil {
		return 0, err
	}
	took := time.Since(start)
	if got := strings.Count(string(out), "\n"); got != n {
		return 0, fmt.Errorf("kubectl get %v has %d lines, want %d", args, got, n)
	}
	return took, nil
}

func (r *round) awsList(ctx context.Context, n int) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, "/usr/bin/aws", "--endpoint-url="+r.store.Endpoint, "s3", "ls", "--recursive", "s3://"+cluster.Bucket)
	cmd.Env = append(os.Environ(), r.store.RootEnv()...)
	start := time.Now()
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("aws s3 ls: %w", err)
	}
	took := time.Since(start)
	if got := strings.Count(string(out), ".json\n"); got != n {
		return 0, fmt.Errorf("aws s3 ls has %d records, want %d", got, n)
	}
	return took, nil
}

// plant writes n dumps into the directory of the store, as the store would: to upload them would take longer than all there is to measure. It gives the length of a
// record. The bodies are empty; lists do not read them.
func (r *round) plant(n int) (size int, err error) {
	begin := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		at := begin.Add(time.Duration(i) * time.Second)
		k := storage.Key{Namespace: listNamespace(i * listNamespaces / n), Pod: fmt.Sprintf("checkout-5d8f7c9b4-%05d", i/dumpsPerPod), Container: container, ID: storage.NewID(at, fmt.Sprint(i))}
		data, err := storage.EncodeRecord(k, exampleRecord(k, at, i))
		if err != nil {
			return 0, err
		}
		size = len(data)
		dir := filepath.Join(r.store.Data(), k.Dir())
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return 0, err
		}
		for key, content := range map[string][]byte{k.Record(): data, k.Body(storage.CodecZstd): nil} {
			file := filepath.Join(r.store.Data(), key)
			if err := os.WriteFile(file, content, 0o644); err != nil {
				return 0, err
			}
			sum := md5.Sum(content) // the store's ETag
			if err := unix.Setxattr(file, "user.etag", []byte(`"`+hex.EncodeToString(sum[:])+`"`), 0); err != nil {
				return 0, fmt.Errorf("setxattr %s: %w", file, err)
			}
		}
	}
	return size, nil
}

// exampleRecord is what there is to say of a crash of a service.
func exampleRecord(k storage.Key, at time.Time, i int) *v1alpha1.CoreDump {
	d := &v1alpha1.CoreDump{}
	d.APIVersion, d.Kind = v1alpha1.SchemeGroupVersion.String(), "CoreDump"
	d.Namespace, d.Name = k.Namespace, k.Name()
	d.Labels = map[string]string{"app.kubernetes.io/name": "checkout", "app.kubernetes.io/instance": "checkout-production", "pod-template-hash": "5d8f7c9b4"}
	d.Spec = v1alpha1.CoreDumpSpec{
		PodName: k.Pod, PodUID: fmt.Sprintf("0b6c9a52-2f1d-4b8e-9d7a-%012d", i/dumpsPerPod), NamespaceUID: "7f3f6c1e-58a5-4f0a-8a53-0d9c1f0e4b11",
		ContainerName: k.Container, NodeName: fmt.Sprintf("node-%d", i%50),
		Process: v1alpha1.Process{Executable: "/app/bin/checkout-server", Comm: "checkout-server", PID: int64(1000 + i), Signal: 11, SignalName: "SIGSEGV", Time: metav1.NewTime(at)},
	}
	d.Status = v1alpha1.CoreDumpStatus{Size: 1 << 30, StoredSize: 1 << 28, Codec: string(storage.CodecZstd), SHA256: strings.Repeat("ab", 32)}
	d.Status.Summary = &v1alpha1.CrashSummary{Text: "SIGSEGV (address not mapped) at 0x8 in /app/bin/checkout-server+0x1f2c, thread 3 of 14"}
	return d
}

// createObjects creates n ConfigMaps of about the size.
func createObjects(ctx context.Context, c *cluster.Cluster, n, size int) error {
	config, err := c.Config(c.Admin)
	if err != nil {
		return err
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	for i := range listNamespaces {
		if _, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: listNamespace(i)}}, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(creators)
	for i := range n {
		group.Go(func() error {
			m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("checkout-5d8f7c9b4-%06d", i), Labels: map[string]string{"bench": ""}}, Data: map[string]string{"record": strings.Repeat("x", size)}}
			_, err := client.CoreV1().ConfigMaps(listNamespace(i*listNamespaces/n)).Create(ctx, m, metav1.CreateOptions{})
			return err
		})
	}
	return group.Wait()
}

// seconds makes a benchmark of one of the times.
func seconds(n int, of func(lists) time.Duration) func(context.Context, *round) (float64, error) {
	return func(ctx context.Context, r *round) (float64, error) {
		l, err := r.lists(ctx, n)
		return of(l).Seconds(), err
	}
}

// listRatio is how many times as long the first takes as the second.
func listRatio(n int, first, second func(lists) time.Duration) func(context.Context, *round) (float64, error) {
	return func(ctx context.Context, r *round) (float64, error) {
		l, err := r.lists(ctx, n)
		if err != nil {
			return 0, err
		}
		return first(l).Seconds() / second(l).Seconds(), nil
	}
}

func oneNamespace(l lists) time.Duration { return l.one }
func firstList(l lists) time.Duration    { return l.first }
func repeatedList(l lists) time.Duration { return l.repeated }
func wholeList(l lists) time.Duration    { return l.whole }
func etcdList(l lists) time.Duration     { return l.etcd }
func awsList(l lists) time.Duration      { return l.aws }

func listPeak(n int) func(context.Context, *round) (float64, error) {
	return func(ctx context.Context, r *round) (float64, error) {
		l, err := r.lists(ctx, n)
		return l.peakMiB, err
	}
}

// listBenchmarks are those of one number of dumps. Where it takes minutes to make them, they run only when they are asked for.
func listBenchmarks(n int, suffix string, most float64, seldom bool) []benchmark {
	asked := ""
	if seldom {
		asked = "list_" + suffix
	}
	return []benchmark{
		{name: "list_" + suffix + "_first_namespace_s", unit: "s", rounds: 1, asked: asked, measure: seconds(n, oneNamespace)},
		{name: "list_" + suffix + "_first_s", unit: "s", rounds: 1, asked: asked, measure: seconds(n, firstList)},
		{name: "list_" + suffix + "_repeated_s", unit: "s", rounds: 1, asked: asked, measure: seconds(n, repeatedList)},
		{name: "list_" + suffix + "_json_s", unit: "s", rounds: 1, asked: asked, measure: seconds(n, wholeList)},
		{name: "list_" + suffix + "_repeated_vs_etcd", unit: "ratio", peer: "ConfigMaps in etcd", most: most, rounds: 1, asked: asked, measure: listRatio(n, repeatedList, etcdList)},
		{name: "list_" + suffix + "_repeated_vs_aws", unit: "ratio", peer: "aws s3 ls --recursive", rounds: 1, asked: asked, measure: listRatio(n, repeatedList, awsList)},
		{name: "list_" + suffix + "_rss_apiserver_mib", unit: "MiB", limit: 512, rounds: 1, asked: asked, measure: listPeak(n)},
	}
}
