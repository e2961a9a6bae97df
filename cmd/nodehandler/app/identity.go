// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"os"

	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	_ "k8s.io/component-base/metrics/prometheus/restclient" // metrics of our requests to kube-apiserver

	"example.io/coredump/pkg/identity"
	"example.io/coredump/pkg/upload"
)

// identifier is who finds out whose dumps are.
type identifier struct {
	upload.Identifier
	place identity.Place
	// run follows what it needs to know, until ctx ends, and synced tells whether it knows it.
	run    func(ctx context.Context) error
	synced func() bool
}

func (c *config) identifier() (*identifier, error) {
	place := identity.Place{NodeName: c.nodeName, ClusterName: c.clusterName}
	config, err := c.clientConfig()
	if err != nil {
		return nil, err
	}
	if config == nil {
		if place.NodeName == "" {
			if place.NodeName, err = os.Hostname(); err != nil {
				return nil, fmt.Errorf("--node-name is missing, and the host name cannot be told: %w", err)
			}
		}
		return &identifier{
			Identifier: identity.Names{Place: place}, place: place,
			run:    func(ctx context.Context) error { <-ctx.Done(); return nil },
			synced: func() bool { return true },
		}, nil
	}
	if place.NodeName == "" {
		return nil, errors.New("--node-name is missing: with Kubernetes it must be the name of this node (environment: NODE_NAME)")
	}
	client, err := corev1client.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	k := identity.NewKubernetes(client, place)
	return &identifier{Identifier: k, place: place, run: k.Run, synced: k.Synced}, nil
}

// clientConfig says how to reach Kubernetes. It is nil where there is none.
func (c *config) clientConfig() (config *rest.Config, err error) {
	switch {
	case c.kubernetes == kubernetesOff:
		return nil, nil
	case c.kubeconfig != "":
		config, err = clientcmd.BuildConfigFromFlags("", c.kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("--kubeconfig: %w", err)
		}
	default:
		config, err = rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) && c.kubernetes == kubernetesAuto {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("--kubernetes=%s without --kubeconfig: %w", c.kubernetes, err)
		}
	}
	config.UserAgent = "coredump-nodehandler/" + version()
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json" // less memory than JSON
	config.ContentType = "application/vnd.kubernetes.protobuf"
	return config, nil
}
