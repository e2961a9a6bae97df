// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"text/template"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeName is the name of the one node.
const NodeName = "node-1"

// NodeAssets are the directories of the programs of a node, as hack/build-tools.sh prints them.
type NodeAssets struct {
	// Node has kubelet and kube-scheduler.
	Node string
	// Containerd has containerd, its shim and ctr.
	Containerd string
	// Runc has runc.
	Runc string
	// CNI has the network plugins.
	CNI string
}

// Node is a scheduler, a container runtime and a kubelet: with it, a cluster runs pods. They share the mount namespace of the machine, so that the paths
// of hostPath volumes are the kernel's own, and are inside Isolated for everything else.
type Node struct {
	Cluster *Cluster
	Assets  NodeAssets
	// Kubelet and Containerd are the processes, for tests that end them.
	Kubelet, Containerd *Process
}

// StartNode brings up a node of a cluster that was started for it (Options.Node), and waits until it is ready. Images are what LoadImage brings.
// It has no end of its own: Cluster.Stop ends the processes, Isolated what the pods leave.
func StartNode(ctx context.Context, c *Cluster, assets NodeAssets) (*Node, error) {
	n := &Node{Cluster: c, Assets: assets}
	for _, step := range []func(context.Context) error{n.startScheduler, n.startContainerd, n.loadPause, n.startKubelet, n.ready} {
		if err := step(ctx); err != nil {
			return n, err
		}
	}
	return n, nil
}

// start runs a program, which ends with the cluster.
func (n *Node) start(name, path string, args ...string) (*Process, error) {
	p, err := StartProcess(n.Cluster.Dir, name, nil, path, args...)
	if err == nil {
		n.Cluster.processes = append(n.Cluster.processes, p)
	}
	return p, err
}

func (n *Node) startScheduler(context.Context) error {
	config, err := n.Cluster.Kubeconfig("system:kube-scheduler")
	if err != nil {
		return err
	}
	_, err = n.start("kube-scheduler", filepath.Join(n.Assets.Node, "kube-scheduler"), "--kubeconfig="+config, "--leader-elect=false",
		"--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config, "--bind-address=127.0.0.1")
	return err
}

// pauseImage is the image of pod sandboxes; nobody serves it, it is imported.
const pauseImage = "registry.example.io/pause:1"

var containerdConfig = template.Must(template.New("").Parse(`version = 3
root = '{{.Dir}}/containerd'
state = '{{.Dir}}/containerd-state'
[grpc]
  address = '{{.Socket}}'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '{{.Pause}}'
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  # Without CAP_SYS_RESOURCE, which root does not have everywhere, no score can be lower than one's own.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = 'runc'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = '{{.Runc}}/runc'
        SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['{{.CNI}}']
    conf_dir = '{{.Dir}}/cni'
[plugins.'io.containerd.nri.v1.nri']
  disable = true
`))

var networkConfig = template.Must(template.New("").Parse(`{"cniVersion": "1.0.0", "name": "coredump-test", "plugins": [{
  "type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": false,
  "ipam": {"type": "host-local", "dataDir": "{{.Dir}}/cni-ipam", "ranges": [[{"subnet": "{{.Range}}"}]], "routes": [{"dst": "0.0.0.0/0"}]}
}]}
`))

// Where the manifests expect what belongs to the node, so these are the usual places.
const (
	criSocket = "/run/containerd/containerd.sock"
	podLogs   = "/var/log/pods"
)

func (n *Node) write(name string, t *template.Template, values map[string]string) (string, error) {
	file := n.Cluster.file(name)
	var b bytes.Buffer
	values["Dir"], values["Socket"] = n.Cluster.Dir, criSocket
	if err := t.Execute(&b, values); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", err
	}
	return file, os.WriteFile(file, b.Bytes(), 0o600)
}

func (n *Node) startContainerd(ctx context.Context) error {
	if _, err := n.write("cni/10-pods.conflist", networkConfig, map[string]string{"Range": podRange}); err != nil {
		return err
	}
	config, err := n.write("containerd.toml", containerdConfig, map[string]string{"Pause": pauseImage, "Runc": n.Assets.Runc, "CNI": n.Assets.CNI})
	if err != nil {
		return err
	}
	if n.Containerd, err = n.start("containerd", filepath.Join(n.Assets.Containerd, "containerd"), "--config="+config, "--log-level=info"); err != nil {
		return err
	}
	return n.Containerd.WaitFor(ctx, func(ctx context.Context) error { return n.ctr(ctx, "version") })
}

var kubeletConfig = template.Must(template.New("").Parse(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
containerRuntimeEndpoint: unix://{{.Socket}}
address: {{.Address}}
healthzBindAddress: 127.0.0.1
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: {{.CA}}}}
authorization: {mode: Webhook}
tlsCertFile: {{.Cert}}
tlsPrivateKeyFile: {{.Key}}
failSwapOn: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 50Mi, nodefs.available: 1%, imagefs.available: 1%}
podLogsDir: {{.PodLogs}}
volumePluginDir: {{.Dir}}/kubelet/volumeplugins
syncFrequency: 10s
nodeStatusUpdateFrequency: 4s
# Pods that crash on purpose need not wait for minutes.
crashLoopBackOff: {maxContainerRestartPeriod: 2s}
featureGates: {KubeletCrashLoopBackOffMax: true}
`))

func (n *Node) startKubelet(context.Context) error {
	c := n.Cluster
	auth, err := c.Kubeconfig("system:node:"+NodeName, "system:nodes")
	if err != nil {
		return err
	}
	serving, err := c.ca.Server("kubelet", NodeName)
	if err != nil {
		return err
	}
	config, err := n.write("kubelet.yaml", kubeletConfig, map[string]string{"Address": NodeAddress, "CA": c.ca.File, "Cert": serving.Cert, "Key": serving.Key, "PodLogs": podLogs})
	if err != nil {
		return err
	}
	n.Kubelet, err = n.start("kubelet", filepath.Join(n.Assets.Node, "kubelet"), "--config="+config, "--kubeconfig="+auth, "--root-dir="+c.file("kubelet"),
		"--cert-dir="+c.file("kubelet-pki"), "--hostname-override="+NodeName, "--node-ip="+NodeAddress, "--v=2")
	return err
}

// ready waits for the node, and for the service account that pods without another one have: before there is one, pods are refused.
func (n *Node) ready(ctx context.Context) error {
	client, err := n.Cluster.Client(n.Cluster.Admin)
	if err != nil {
		return err
	}
	return n.Kubelet.WaitFor(ctx, func(ctx context.Context) error {
		node, err := client.CoreV1().Nodes().Get(ctx, NodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
				return err
			}
		}
		return errors.New("the node is not ready")
	})
}
