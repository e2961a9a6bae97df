// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	eventsclient "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	_ "k8s.io/component-base/metrics/prometheus/restclient" // metrics of our requests to kube-apiserver

	"example.io/coredump/pkg/identity"
	"example.io/coredump/pkg/podcontext"
	"example.io/coredump/pkg/upload"
)

// identifier is who finds out whose dumps are.
type identifier struct {
	upload.Identifier
	place   identity.Place
	locator *identity.Locator
	// runtime is nil where there is none to be asked, and so are the others where there is no Kubernetes.
	runtime    podcontext.Runtime
	kubernetes *identity.Kubernetes
	pods       corev1client.PodsGetter
	events     eventsclient.EventsV1Interface
}

// run follows what it needs to know, until ctx ends.
func (i *identifier) run(ctx context.Context) error {
	loops, ctx := errgroup.WithContext(ctx)
	if i.locator.CRI != nil {
		loops.Go(func() error { return i.locator.CRI.Run(ctx) })
	}
	if i.kubernetes != nil {
		loops.Go(func() error { return i.kubernetes.Run(ctx) })
	}
	<-ctx.Done()
	return loops.Wait()
}

// synced tells whether it knows it.
func (i *identifier) synced() bool { return i.kubernetes == nil || i.kubernetes.Synced() }

// remember keeps what is known of pods in a file.
func (i *identifier) remember(file string) error {
	if i.kubernetes == nil {
		return nil
	}
	return i.kubernetes.Remember(file)
}

func (c *config) identifier() (*identifier, error) {
	place := identity.Place{NodeName: c.nodeName, ClusterName: c.clusterName}
	config, err := c.clientConfig()
	if err != nil {
		return nil, err
	}
	i := &identifier{}
	if config == nil {
		if place.NodeName == "" {
			if place.NodeName, err = os.Hostname(); err != nil {
				return nil, fmt.Errorf("--node-name is missing, and the host name cannot be told: %w", err)
			}
		}
		i.Identifier = identity.Names{Place: place}
	} else {
		if place.NodeName == "" {
			return nil, errors.New("--node-name is missing: with Kubernetes it must be the name of this node (environment: NODE_NAME)")
		}
		client, err := corev1client.NewForConfig(config)
		if err != nil {
			return nil, fmt.Errorf("--kubeconfig: %w", err)
		}
		if i.events, err = eventsclient.NewForConfig(config); err != nil {
			return nil, fmt.Errorf("--kubeconfig: %w", err)
		}
		i.kubernetes = identity.NewKubernetes(client, place)
		i.Identifier, i.pods = i.kubernetes, client
	}
	i.place = place
	i.locator = &identity.Locator{Place: place, Kubernetes: i.kubernetes}
	if c.kernel.capture != captureFile {
		i.locator.CRI = identity.NewCRI(identity.DefaultCRIEndpoints)
		if c.kernel.criEndpoint != "" {
			i.locator.CRI = identity.NewCRI([]string{c.kernel.criEndpoint})
		}
		i.runtime = i.locator.CRI
	}
	return i, nil
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
