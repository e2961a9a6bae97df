// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"text/template"
)

// SystemNamespace is where artifacts/base installs our programs.
const SystemNamespace = "coredump-system"

// System is our programs on a cluster and a store. They run as processes on the loopback interface, with the service accounts and
// roles of artifacts/base and each with an account of its own at the store.
type System struct {
	Cluster *Cluster
	Store   *Store
	// Bin is the directory of our programs.
	Bin string
	// Repo is the directory of the project, which has artifacts/.
	Repo string

	port       string
	processes  []*Process
	generation int
}

// Install applies artifacts/base with what differs without a node: the Service leads to localhost, on the port
// that StartAPIServer will listen on.
func Install(ctx context.Context, c *Cluster, s *Store, bin, repo string) (*System, error) {
	ports, err := FreePorts(1)
	if err != nil {
		return nil, err
	}
	sys := &System{Cluster: c, Store: s, Bin: bin, Repo: repo, port: ports[0]}
	overlay := filepath.Join(c.Dir, "overlay")
	if err := sys.writeOverlay(overlay); err != nil {
		return sys, err
	}
	_, err = c.Kubectl(ctx, c.Admin, "apply", "-k", overlay)
	return sys, err
}

var overlay = template.Must(template.New("").Parse(`apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [{{.Base}}]
patches:
- target: {kind: Service, name: coredump-apiserver}
  patch: |
    - {op: replace, path: /spec, value: {type: ExternalName, externalName: localhost, ports: [{port: {{.Port}}}]}}
- target: {kind: APIService}
  patch: |
    - {op: add, path: /spec/service/port, value: {{.Port}}}
    - {op: add, path: /spec/caBundle, value: {{.CA}}}
`))

func (s *System) writeOverlay(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	base, err := filepath.Rel(real, filepath.Join(s.Repo, "artifacts", "base"))
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(s.Cluster.ca.File)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := overlay.Execute(&b, map[string]string{"Base": base, "Port": s.port, "CA": base64.StdEncoding.EncodeToString(ca)}); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "kustomization.yaml"), b.Bytes(), 0o600)
}

// Stop ends our programs with SIGTERM, then SIGKILL.
func (s *System) Stop() {
	for _, p := range s.processes {
		_ = p.Stop()
	}
	s.processes = nil
}

// start runs one of our programs with the account of the store that is its own.
func (s *System) start(name string, env []string, args ...string) (*Process, error) {
	s.generation++
	log := fmt.Sprintf("%s-%d", name, s.generation)
	p, err := StartProcess(s.Cluster.Dir, log, append(s.Store.Env("coredump-"+name), env...), filepath.Join(s.Bin, name), args...)
	if err == nil {
		s.processes = append(s.processes, p)
	}
	return p, err
}

// StartAPIServer runs apiserver and waits until the aggregated API answers through kube-apiserver.
func (s *System) StartAPIServer(ctx context.Context, args ...string) (*Process, error) {
	config, err := s.Cluster.TokenKubeconfig(ctx, SystemNamespace, "coredump-apiserver")
	if err != nil {
		return nil, err
	}
	serving, err := s.Cluster.ca.Server("coredump-apiserver", "coredump-apiserver."+SystemNamespace+".svc")
	if err != nil {
		return nil, err
	}
	p, err := s.start("apiserver", []string{"GOMEMLIMIT=400MiB"}, append([]string{ // as in artifacts/base
		"--store=" + s.Store.URL(), "--bind-address=127.0.0.1", "--secure-port=" + s.port,
		"--tls-cert-file=" + serving.Cert, "--tls-private-key-file=" + serving.Key,
		"--kubeconfig=" + config, "--authentication-kubeconfig=" + config, "--authorization-kubeconfig=" + config,
	}, args...)...)
	if err != nil {
		return nil, err
	}
	return p, p.WaitFor(ctx, s.available)
}

// available asks for the resource list and for the schema, through kube-apiserver.
func (s *System) available(ctx context.Context) error {
	client, err := s.Cluster.Client(s.Cluster.Admin)
	if err != nil {
		return err
	}
	resources, err := client.Discovery().ServerResourcesForGroupVersion("coredump.example.io/v1alpha1")
	if err != nil {
		return err
	}
	if len(resources.APIResources) == 0 {
		return errors.New("no resources")
	}
	// kube-apiserver fetches the schema some seconds later; kubectl explain needs it.
	schema, err := client.Discovery().RESTClient().Get().AbsPath("/openapi/v3/apis/coredump.example.io/v1alpha1").DoRaw(ctx)
	if err == nil && !bytes.Contains(schema, []byte("CoreDumpEndpoint")) {
		err = errors.New("no schema")
	}
	return err
}

var sentLine = regexp.MustCompile(`"Download" .* bytes=([0-9]+) `)

// Sent is how many bytes of dumps apiserver says in its logs that it sent, before it was restarted too. Dir is that of the cluster.
func Sent(dir string) (n int64, err error) {
	logs, err := filepath.Glob(filepath.Join(dir, "apiserver-*.log"))
	for _, log := range logs {
		data, e := os.ReadFile(log)
		err = errors.Join(err, e)
		for _, m := range sentLine.FindAllSubmatch(data, -1) {
			bytes, e := strconv.ParseInt(string(m[1]), 10, 64)
			err = errors.Join(err, e)
			n += bytes
		}
	}
	return n, err
}

// APIServerURL is where apiserver listens, past the aggregator.
func (s *System) APIServerURL() string { return "https://127.0.0.1:" + s.port }

// NodeHandler is a running nodehandler.
type NodeHandler struct {
	*Process
	// URL is where its probes and metrics are.
	URL string
	// Dir is the watched directory.
	Dir string
}

// StartNodeHandler runs nodehandler on a directory, and waits until it is ready.
func (s *System) StartNodeHandler(ctx context.Context, dir string, args ...string) (*NodeHandler, error) {
	config, err := s.Cluster.TokenKubeconfig(ctx, SystemNamespace, "coredump-nodehandler")
	if err != nil {
		return nil, err
	}
	ports, err := FreePorts(1)
	if err != nil {
		return nil, err
	}
	address := "127.0.0.1:" + ports[0]
	args = append([]string{"--capture=file", "--store=" + s.Store.URL(), "--kubeconfig=" + config, "--listen-address=" + address}, args...)
	p, err := s.start("nodehandler", []string{"NODE_NAME=node-1", "CLUSTER_NAME=test"}, append(args, dir)...)
	if err != nil {
		return nil, err
	}
	h := &NodeHandler{Process: p, URL: "http://" + address, Dir: dir}
	return h, p.WaitFor(ctx, func(ctx context.Context) error { return get(ctx, h.URL+"/readyz") })
}

// GC runs gc to its end and gives what it printed.
func (s *System) GC(ctx context.Context, args ...string) (string, error) {
	config, err := s.Cluster.TokenKubeconfig(ctx, SystemNamespace, "coredump-gc")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.Bin, "gc"), append([]string{"--store=" + s.Store.URL(), "--kubeconfig=" + config}, args...)...)
	cmd.Env = append(s.Store.Env("coredump-gc"), "HOME="+s.Cluster.Dir)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return nil
}
