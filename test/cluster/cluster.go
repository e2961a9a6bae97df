// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Options of a cluster.
type Options struct {
	// Dir is where everything goes. It must exist; whoever made it removes it.
	Dir string
	// Assets is the directory of etcd, kube-apiserver, kubectl and, where there is one, kube-controller-manager.
	Assets string
	// RequestTimeout is kube-apiserver's --request-timeout; its default (60 s) where zero.
	RequestTimeout time.Duration
	// Node prepares for StartNode: the API server is where pods expect it, Services lead to pods, and all controllers run. It takes Isolated.
	Node bool
}

// Cluster is a running control plane.
type Cluster struct {
	Options
	// Server is the URL of kube-apiserver.
	Server string
	// Admin is the kubeconfig of a member of system:masters.
	Admin string

	ca, frontProxy *CA
	tokens         Pair // of service accounts
	processes      []*Process
	apiServer      *Process
	apiServerArgs  []string // but --request-timeout
}

// Start brings up a control plane and waits until it answers. The caller stops it, also after an error.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	c := &Cluster{Options: o}
	for _, step := range []func(context.Context) error{c.certificates, c.startEtcd, c.startAPIServer, c.startControllers} {
		if err := step(ctx); err != nil {
			return c, err
		}
	}
	return c, nil
}

// Stop ends every process, the last started first.
func (c *Cluster) Stop() {
	for i := len(c.processes) - 1; i >= 0; i-- {
		_ = c.processes[i].Signal(os.Interrupt)
		c.processes[i].Kill() // nothing here is worth a graceful end
	}
	c.processes = nil
}

func (c *Cluster) file(name string) string { return filepath.Join(c.Dir, name) }

// certificates makes the cluster's CA, the front proxy's CA, and the key of service account tokens.
func (c *Cluster) certificates(context.Context) (err error) {
	if c.ca, err = NewCA(c.Dir, "ca"); err != nil {
		return err
	}
	c.frontProxy, err = NewCA(c.Dir, "front-proxy-ca")
	return err
}

// start runs a program of the control plane.
func (c *Cluster) start(name string, args ...string) (*Process, error) {
	p, err := StartProcess(c.Dir, name, nil, filepath.Join(c.Assets, name), args...)
	if err == nil {
		c.processes = append(c.processes, p)
	}
	return p, err
}

func (c *Cluster) startEtcd(ctx context.Context) error {
	ports, err := FreePorts(2)
	if err != nil {
		return err
	}
	client, peer := "http://127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[1]
	_, err = c.start("etcd", "--data-dir="+c.file("etcd"), "--log-level=warn", "--unsafe-no-fsync",
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer)
	if err != nil {
		return err
	}
	c.Server = client // for startAPIServer, which replaces it
	return nil
}

// startControllers runs the controllers that matter without a node: those that delete namespaces and those that aggregate
// cluster roles. Directories of test assets made by others have no kube-controller-manager; then there are none.
func (c *Cluster) startControllers(context.Context) error {
	if !c.HasControllers() {
		return nil
	}
	config, err := c.Kubeconfig("system:kube-controller-manager", "system:masters")
	if err != nil {
		return err
	}
	args := []string{"--kubeconfig=" + config, "--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port=0"}
	if c.Node {
		args = append(args, "--root-ca-file="+c.ca.File, "--service-account-private-key-file="+c.tokens.Key)
	} else {
		args = append(args, "--controllers=namespace-controller,clusterrole-aggregation-controller,serviceaccount-controller")
	}
	_, err = c.start("kube-controller-manager", args...)
	return err
}

// HasControllers tells whether this cluster deletes namespaces and aggregates cluster roles.
func (c *Cluster) HasControllers() bool {
	_, err := os.Stat(filepath.Join(c.Assets, "kube-controller-manager"))
	return err == nil
}

// Kubeconfig makes a kubeconfig for a user with a client certificate and returns its path.
func (c *Cluster) Kubeconfig(user string, groups ...string) (string, error) {
	pair, err := c.ca.Client(user, groups...)
	if err != nil {
		return "", err
	}
	return c.writeKubeconfig(user, &clientcmdapi.AuthInfo{ClientCertificate: pair.Cert, ClientKey: pair.Key})
}

// TokenKubeconfig makes a kubeconfig for a service account with a bearer token and returns its path.
func (c *Cluster) TokenKubeconfig(ctx context.Context, namespace, serviceAccount string) (string, error) {
	token, err := c.Kubectl(ctx, c.Admin, "create", "token", "-n", namespace, serviceAccount, "--duration=24h")
	if err != nil {
		return "", err
	}
	return c.writeKubeconfig(serviceAccount, &clientcmdapi.AuthInfo{Token: strings.TrimSpace(string(token))})
}

func (c *Cluster) writeKubeconfig(name string, auth *clientcmdapi.AuthInfo) (string, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{Server: c.Server, CertificateAuthority: c.ca.File}
	config.AuthInfos["user"] = auth
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "user"}
	config.CurrentContext = "test"
	file := c.file(fileName(name) + ".kubeconfig")
	return file, clientcmd.WriteToFile(*config, file)
}

// Config is the client configuration of a kubeconfig.
func (c *Cluster) Config(kubeconfig string) (*rest.Config, error) {
	return clientcmd.BuildConfigFromFlags("", kubeconfig)
}

// Client is a client with the identity of a kubeconfig.
func (c *Cluster) Client(kubeconfig string) (*kubernetes.Clientset, error) {
	config, err := c.Config(kubeconfig)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// Command is kubectl with the identity of a kubeconfig, not yet started.
func (c *Cluster) Command(ctx context.Context, kubeconfig string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.Assets, "kubectl"), args...)
	cmd.Env = []string{"KUBECONFIG=" + kubeconfig, "HOME=" + c.Dir, "PATH=" + os.Getenv("PATH")}
	return cmd
}

// Kubectl runs kubectl with the identity of a kubeconfig and gives its standard output. Its error has the standard error.
func (c *Cluster) Kubectl(ctx context.Context, kubeconfig string, args ...string) ([]byte, error) {
	out, err := c.Command(ctx, kubeconfig, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out, fmt.Errorf("kubectl %v: %w: %s", args, err, exit.Stderr)
	}
	return out, err
}

// FreePorts finds TCP ports on the loopback interface that nobody listens on. All are held until all are found, so they differ.
func FreePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports, nil
}

// ClientCertificate signs a certificate for a user, as Kubeconfig does.
func (c *Cluster) ClientCertificate(user string, groups ...string) (Pair, error) {
	return c.ca.Client(user, groups...)
}

// ServingCertificate signs a certificate for a server on the loopback interface that has the names too.
func (c *Cluster) ServingCertificate(name string, dnsNames ...string) (Pair, error) {
	return c.ca.Server(name, dnsNames...)
}

// CA is the file of the certificate authority of kube-apiserver, and of apiserver where System runs it.
func (c *Cluster) CA() string { return c.ca.File }

// FrontProxyCertificate signs a client certificate of another name with the front proxy's CA.
func (c *Cluster) FrontProxyCertificate(name string) (Pair, error) { return c.frontProxy.Client(name) }
