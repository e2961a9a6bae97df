// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"slices"
	"time"
)

func (c *Cluster) startAPIServer(ctx context.Context) error {
	etcd := c.Server
	serving, err := c.ca.Server("kube-apiserver", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
	if err != nil {
		return err
	}
	proxy, err := c.frontProxy.Client("front-proxy-client")
	if err != nil {
		return err
	}
	if c.tokens, err = c.ca.Client("service-account-tokens"); err != nil {
		return err
	}
	ports, err := FreePorts(1)
	if err != nil {
		return err
	}
	address, port := "127.0.0.1", ports[0]
	if c.Node {
		address, port = serviceAddress, "443"
	}
	c.Server = "https://" + address + ":" + port
	args := []string{
		"--etcd-servers=" + etcd, "--bind-address=" + address, "--advertise-address=" + address, "--secure-port=" + port,
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=" + serviceRange, "--authorization-mode=Node,RBAC",
		"--client-ca-file=" + c.ca.File, "--tls-cert-file=" + serving.Cert, "--tls-private-key-file=" + serving.Key,
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + c.tokens.Cert,
		"--service-account-signing-key-file=" + c.tokens.Key,
		"--requestheader-client-ca-file=" + c.frontProxy.File, "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + proxy.Cert, "--proxy-client-key-file=" + proxy.Key,
	}
	if c.Node {
		kubelet, err := c.ca.Client("kube-apiserver-kubelet-client", "system:masters")
		if err != nil {
			return err
		}
		args = append(args, "--allow-privileged=true", "--enable-admission-plugins=NodeRestriction",
			// There is no kube-proxy: the aggregator asks the pods behind a Service itself.
			"--enable-aggregator-routing=true",
			"--kubelet-client-certificate="+kubelet.Cert, "--kubelet-client-key="+kubelet.Key, "--kubelet-certificate-authority="+c.ca.File,
			"--kubelet-preferred-address-types=InternalIP")
	} else {
		args = append(args,
			// There is no kube-proxy: a Service of type ExternalName leads the aggregator to localhost, which it does
			// only without this.
			"--enable-aggregator-routing=false",
			// The plugin needs the default service account, which needs controllers, and no pod runs here.
			"--disable-admission-plugins=ServiceAccount")
	}
	if c.Admin, err = c.Kubeconfig("admin", "system:masters"); err != nil {
		return err
	}
	c.apiServerArgs = args
	return c.runAPIServer(ctx)
}

// runAPIServer waits until it answers.
func (c *Cluster) runAPIServer(ctx context.Context) (err error) {
	args := c.apiServerArgs
	if c.RequestTimeout > 0 {
		args = append(slices.Clone(args), "--request-timeout="+c.RequestTimeout.String())
	}
	if c.apiServer, err = c.start("kube-apiserver", args...); err != nil {
		return err
	}
	client, err := c.Client(c.Admin)
	if err != nil {
		return err
	}
	return c.apiServer.WaitFor(ctx, func(ctx context.Context) error {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

// RestartAPIServer kills kube-apiserver, in the middle of whatever it does, and runs it again at the same address, with another --request-timeout; 0 is its default.
// It waits until it answers.
func (c *Cluster) RestartAPIServer(ctx context.Context, requestTimeout time.Duration) error {
	c.apiServer.Kill()
	c.processes = slices.DeleteFunc(c.processes, func(p *Process) bool { return p == c.apiServer })
	c.RequestTimeout = requestTimeout
	return c.runAPIServer(ctx)
}
