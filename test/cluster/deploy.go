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
// waits until everything is ready. The overlay says where the store is and, where there are any, which arguments the node handler has beside its own; patches
// are further entries of the overlay's list of patches.
func Deploy(ctx context.Context, n *Node, s *Store, bin, repo string, patches ...string) (*Deployment, error) {
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
	return d, d.Apply(ctx, patches...)
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
patches:
{{- range .Patches}}
- {{.}}
{{- else}} []
{{- end}}
`))

// Apply applies the overlay with other patches, and waits until what it changes is ready. A patch is JSON, as {"target": {"kind": "DaemonSet"}, "patch": "[…]"}; see Args.
func (d *Deployment) Apply(ctx context.Context, patches ...string) error {
	var b bytes.Buffer
	err := deployOverlay.Execute(&b, map[string]any{
		"Namespace": SystemNamespace, "Store": d.Store.URL(), "Accounts": []string{"nodehandler", "apiserver", "gc"}, "Patches": patches,
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

// Args is a patch that puts arguments behind those that the node handler has, so that they win.
func Args(args ...string) string {
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value string `json:"value"`
	}
	var operations []operation
	for _, arg := range args {
		operations = append(operations, operation{"add", "/spec/template/spec/containers/0/args/-", arg})
	}
	return patch("DaemonSet", "coredump-nodehandler", operations)
}

// patch is an entry of the list of patches of an overlay.
func patch(kind, name string, operations any) string {
	list, err := json.Marshal(operations)
	if err != nil {
		panic(err) // of strings only
	}
	entry, err := json.Marshal(map[string]any{"target": map[string]string{"kind": kind, "name": name}, "patch": string(list)})
	if err != nil {
		panic(err)
	}
	return string(entry)
}
