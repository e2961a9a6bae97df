// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"
)

// Deployment is our programs as artifacts/ installs them, as pods of a node.
type Deployment struct {
	Node  *Node
	Store *Store
	// Dir has the copy of artifacts/ and the overlay that was applied.
	Dir string
}

// Programs that have an image each.
var deployed = []struct {
	name string
	// with are programs in the image beside its own.
	with []string
	user string
}{
	{name: "apiserver", user: "65532"},
	{name: "gc", user: "65532"},
	{name: "nodehandler", with: []string{"corepipe"}},
}

// Deploy builds images of the programs in bin, installs artifacts/overlays/self-signed of the project in repo by an overlay as docs/install.md has it, and
// waits until everything is ready. The overlay says where the store is, and what o does.
func Deploy(ctx context.Context, n *Node, s *Store, bin, repo string, o Overlay) (*Deployment, error) {
	d := &Deployment{Node: n, Store: s, Dir: n.Cluster.file("deploy")}
	for _, p := range deployed {
		files := map[string]string{p.name: filepath.Join(bin, p.name)}
		for _, other := range p.with {
			if path := filepath.Join(bin, other); exists(path) {
				files[other] = path
			}
		}
		image := Image{Name: "registry.example.io/coredump/" + p.name + ":v0.1.0", Files: files, Entrypoint: []string{"/" + p.name}, User: p.user}
		if err := n.LoadImage(ctx, image); err != nil {
			return d, err
		}
	}
	artifacts := filepath.Join(d.Dir, "artifacts")
	if err := os.CopyFS(artifacts, os.DirFS(filepath.Join(repo, "artifacts"))); err != nil {
		return d, err
	}
	if out, err := exec.CommandContext(ctx, "bash", filepath.Join(artifacts, "make-certs.sh"), filepath.Join(artifacts, "overlays/self-signed/certs")).CombinedOutput(); err != nil {
		return d, fmt.Errorf("make-certs.sh: %w: %s", err, out)
	}
	return d, d.Apply(ctx, o)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

var deployOverlay = template.Must(template.New("").Parse(`apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../artifacts/overlays/self-signed]
configMapGenerator:
- name: coredump
  namespace: {{.Namespace}}
  behavior: merge
  literals:
  - "COREDUMP_STORE={{.Store}}"
  - CLUSTER_NAME=test
generatorOptions: {disableNameSuffixHash: true}
secretGenerator:
{{- range .Accounts}}
- name: coredump-{{.}}-s3
  namespace: {{$.Namespace}}
  literals: [AWS_ACCESS_KEY_ID=coredump-{{.}}, AWS_SECRET_ACCESS_KEY=coredump-{{.}}-secret]
{{- end}}
components:
{{- range .Components}}
- ../artifacts/components/{{.}}
{{- else}} []
{{- end}}
patches:
- target: {kind: DaemonSet, name: coredump-nodehandler}
  patch: '{{.Patch}}'
`))

// Overlay is what a deployment has beside the base.
type Overlay struct {
	// Args are for the node handler, behind those that it has, so that they win.
	Args []string
	// Components are names of directories in artifacts/components.
	Components []string
}

// Apply applies another overlay, and waits until what it changes is ready.
func (d *Deployment) Apply(ctx context.Context, o Overlay) error {
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value string `json:"value"`
	}
	operations := []operation{}
	for _, arg := range o.Args {
		operations = append(operations, operation{"add", "/spec/template/spec/containers/0/args/-", arg})
	}
	patch, err := json.Marshal(operations)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	err = deployOverlay.Execute(&b, map[string]any{
		"Namespace": SystemNamespace, "Store": d.Store.URL(), "Accounts": []string{"nodehandler", "apiserver", "gc"}, "Components": o.Components, "Patch": string(patch),
	})
	if err != nil {
		return err
	}
	overlay := filepath.Join(d.Dir, "overlay")
	if err := os.MkdirAll(overlay, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), b.Bytes(), 0o600); err != nil {
		return err
	}
	c := d.Node.Cluster
	if _, err := c.Kubectl(ctx, c.Admin, "apply", "-k", overlay); err != nil {
		return err
	}
	for _, workload := range []string{"daemonset/coredump-nodehandler", "deployment/coredump-apiserver"} {
		if _, err := c.Kubectl(ctx, c.Admin, "rollout", "status", "-n", SystemNamespace, workload, "--timeout=90s"); err != nil {
			pods, _ := c.Kubectl(context.WithoutCancel(ctx), c.Admin, "describe", "pods", "-n", SystemNamespace)
			return fmt.Errorf("%w\n%s", err, pods)
		}
	}
	_, err = c.Kubectl(ctx, c.Admin, "wait", "--for=condition=Available", "apiservice/v1alpha1.coredump.example.io", "--timeout=60s")
	return err
}
