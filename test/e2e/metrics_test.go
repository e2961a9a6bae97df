// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/test/cluster"
)

// samples are what a scrape gave, by the name of the metric and its labels as they are written there.
type samples map[string]float64

// scrape asks the node handler for its metrics, as Prometheus does.
func (f *fixture) scrape(ctx context.Context) (samples, error) {
	pod, err := f.handlerPod(ctx)
	if err != nil {
		return nil, err
	}
	out, err := f.cluster.Kubectl(ctx, f.cluster.Admin, "get", "--raw", "/api/v1/namespaces/"+cluster.SystemNamespace+"/pods/"+pod.Name+":8080/proxy/metrics")
	if err != nil {
		return nil, err
	}
	all := samples{}
	for line := range strings.Lines(string(out)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "} ")
		if ok {
			name += "}"
		} else {
			name, value, ok = strings.Cut(strings.TrimSpace(line), " ")
		}
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		if all[name], err = strconv.ParseFloat(value, 64); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
	}
	return all, nil
}

// handlerPod is the pod of the node handler.
func (f *fixture) handlerPod(ctx context.Context) (*corev1.Pod, error) {
	client, err := f.cluster.Client(f.cluster.Admin)
	if err != nil {
		return nil, err
	}
	pods, err := client.CoreV1().Pods(cluster.SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=coredump-nodehandler"})
	if err != nil {
		return nil, err
	}
	for i := range pods.Items {
		if pods.Items[i].DeletionTimestamp == nil {
			return &pods.Items[i], nil
		}
	}
	return nil, fmt.Errorf("%d pods of the node handler, none that stays", len(pods.Items))
}

func (f *fixture) metrics(t *testing.T) (now samples) {
	t.Helper()
	await(t, func(ctx context.Context) (err error) {
		now, err = f.scrape(ctx)
		return err
	})
	return now
}

// awaitCount waits until a counter is larger by n than it was before, and fails where it is larger by more.
func (f *fixture) awaitCount(t *testing.T, before samples, name string, n float64) {
	t.Helper()
	var got float64
	await(t, func(ctx context.Context) error {
		now, err := f.scrape(ctx)
		if got = now[name] - before[name]; err == nil && got < n {
			err = fmt.Errorf("%s is larger by %v, want %v", name, got, n)
		}
		return err
	})
	if got != n {
		t.Errorf("%s is larger by %v, want %v", name, got, n)
	}
}
