// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"example.io/coredump/test/cluster"
)

// documents are those whose shell blocks are executed, in this order.
var documents = []string{"README.md", "docs/api.md", "docs/plugin.md", "docs/install.md", "docs/operations.md"}

// block is a shell block of a document. The comment before it says who runs it.
type block struct{ as, commands string }

var blocks = regexp.MustCompile("(?s)(?:<!-- run as: ([a-z-]+) -->\n)?```sh\n(.*?)```")

// make targets that a document may show. CI runs both; the demo is run here as well.
var makeTarget = regexp.MustCompile(`^make (demo|test)$`)

// TestEveryCommandOfTheDocumentsWorks runs them as they stand there: those of tenants with the role coredump-downloader in the
// namespace shop, where the pod checkout has crashed, and those of administrators on a cluster that has nothing of ours yet.
func TestEveryCommandOfTheDocumentsWorks(t *testing.T) {
	f := &shared
	ns := f.namespace(t, "shop")
	tenant := f.user(t, "shop-alice", ns, "coredump-downloader")
	f.pod(t, ns, "checkout", "app")
	d := f.dump(t, core{namespace: ns, pod: "checkout", container: "app", seed: 1, size: 1 << 20})

	bare := &fixture{}
	t.Cleanup(bare.stop)
	if err := bare.environment(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	var err error
	if bare.cluster, err = cluster.Start(t.Context(), cluster.Options{Dir: bare.dir, Assets: f.assets}); err != nil {
		t.Fatal(err)
	}
	bare.admin(t, "create", "namespace", "shop")
	repo := filepath.Join(t.TempDir(), "repo") // commands may write into their checkout
	shell(t, f.repo, "", "mkdir "+repo+" && cp -r artifacts README.md docs Makefile "+repo)

	work := t.TempDir()
	for _, document := range documents {
		for _, b := range readBlocks(t, filepath.Join(f.repo, document)) {
			commands := strings.ReplaceAll(b.commands, "NAME", d.Name)
			switch {
			case makeTarget.MatchString(strings.TrimSpace(commands)):
			case b.as == "tenant":
				f.run(t, document, tenant, work, commands)
			case b.as == "administrator":
				bare.run(t, document, bare.cluster.Admin, repo, commands)
			default:
				t.Errorf("%s: a shell block that nobody runs (want <!-- run as: tenant --> or administrator):\n%s", document, commands)
			}
		}
	}
	for _, kind := range []string{"apiservice/v1alpha1.coredump.example.io", "deployment/coredump-apiserver", "daemonset/coredump-nodehandler", "cronjob/coredump-gc"} {
		bare.admin(t, "get", "-n", cluster.SystemNamespace, kind)
	}
}

func readBlocks(t *testing.T, document string) []block {
	t.Helper()
	data, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	var found []block
	for _, m := range blocks.FindAllStringSubmatch(string(data), -1) {
		found = append(found, block{as: m[1], commands: m[2]})
	}
	return found
}

// run executes the commands of a block in one shell that stops at the first failure.
func (f *fixture) run(t *testing.T, document, config, dir, commands string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", commands)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "KUBECONFIG="+config, "PATH="+f.assets+":"+f.bin+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s\n%s", document, err, commands, out)
	}
}

func TestTheDemoShowsWhatItPromises(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("setting core_pattern needs root")
	}
	demo := filepath.Join(t.TempDir(), "demo")
	shell(t, shared.repo, "", "go build -o "+demo+" ./hack/demo")
	cmd := exec.CommandContext(t.Context(), demo)
	cmd.Dir = shared.repo
	cmd.Env = append(os.Environ(), "DEMO_EXIT=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	contains(t, string(out), "$ kubectl get coredumps -n shop", "$ tar -zxvf coredump.tar.gz", "The same SHA-256", "main.checkout", "(Forbidden)")
	pattern, _ := os.ReadFile("/proc/sys/kernel/core_pattern")
	if strings.Contains(string(pattern), "coredump-test") {
		t.Errorf("core_pattern is left at %q", pattern)
	}
}
