// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// krew builds krew from the module that pins it. Where that cannot be downloaded, as its modules are old ones, the rest is not tested: what the archive has was.
func krew(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	program := filepath.Join(t.TempDir(), "krew")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "sigs.k8s.io/krew/cmd/krew")
	cmd.Dir = filepath.Join(shared.repo, "hack", "krew")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: that krew installs the plugin: krew cannot be built here: %v\n%s", err, out)
	}
	return program
}

func TestKrewInstallsThePlugin(t *testing.T) {
	dir := t.TempDir()
	platform := runtime.GOOS + "-" + runtime.GOARCH
	archive := "kubectl-coredump-" + platform + ".tar.gz"
	shell(t, shared.repo, "", "PLATFORMS="+platform+" hack/krew.sh v1.2.3-rc.1 https://downloads.example.org/v1.2.3-rc.1/ "+dir)
	if made := shell(t, dir, "", "ls"); made != "coredump.yaml\n"+archive+"\n" {
		t.Errorf("made %q", made)
	}
	if in := shell(t, dir, "", "tar -tf "+archive+" | sort"); in != "./\n./LICENSE\n./kubectl-coredump\n./kubectl_complete-coredump\n" {
		t.Errorf("the archive has %q", in)
	}
	data, err := os.ReadFile(filepath.Join(dir, "coredump.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		Spec struct {
			Version, Caveats string
			Platforms        []struct{ URI, SHA256 string }
		}
	}
	if err := yaml.Unmarshal(data, &manifest); err != nil {
		t.Fatal(err)
	}
	spec := manifest.Spec
	if spec.Version != "v1.2.3-rc.1" || len(spec.Platforms) != 1 || spec.Platforms[0].URI != "https://downloads.example.org/v1.2.3-rc.1/"+archive ||
		spec.Platforms[0].SHA256 != strings.Fields(shell(t, dir, "", "sha256sum "+archive))[0] {
		t.Errorf("the manifest is\n%s", data)
	}
	for _, wrong := range []string{"hack/krew.sh 1.2.3 https://downloads.example.org ", "PLATFORMS=plan9-amd64 hack/krew.sh v1.2.3 https://downloads.example.org "} {
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", "cd "+shared.repo+" && "+wrong+t.TempDir()).CombinedOutput(); err == nil || !strings.Contains(string(out), "krew.sh: ") {
			t.Errorf("%s: %v: %s", wrong, err, out)
		}
	}

	root := filepath.Join(dir, "root")
	t.Setenv("KREW_ROOT", root)
	t.Setenv("KREW_NO_UPGRADE_CHECK", "1")
	t.Setenv("KUBECONFIG", "/dev/null")
	t.Setenv("PATH", filepath.Join(root, "bin")+":"+shared.assets+":"+os.Getenv("PATH"))
	shell(t, dir, "", krew(t)+" install --manifest=coredump.yaml --archive="+archive)
	contains(t, shell(t, dir, "", "kubectl coredump --help"), "kubectl coredump [command]", "download ")
	contains(t, shell(t, dir, "", "kubectl coredump --version"), "v1.2.3-rc.1")
	if used := shell(t, dir, "", "command -v kubectl-coredump"); used != filepath.Join(root, "bin", "kubectl-coredump")+"\n" {
		t.Errorf("kubectl runs %s", used)
	}
	for line := range strings.Lines(spec.Caveats) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "cp ") { // as who reads them would
			shell(t, dir, "", line)
		}
	}
	contains(t, shell(t, dir, "", "kubectl __complete coredump debug --debugger ''"), "gdb\nlldb\n")
}
