// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package artifacts

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// krewPlugin is what krew reads of a manifest.
type krewPlugin struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Spec       struct {
		Version, Homepage, ShortDescription, Description, Caveats string
		Platforms                                                 []struct {
			Selector struct {
				MatchLabels struct{ OS, Arch string } `json:"matchLabels"`
			} `json:"selector"`
			URI    string `json:"uri"`
			SHA256 string `json:"sha256"`
			Bin    string `json:"bin"`
		} `json:"platforms"`
	} `json:"spec"`
}

// The manifest is what krew takes: each archive is named after the platform that it is for.
func TestKrewManifest(t *testing.T) {
	data, err := os.ReadFile("krew/coredump.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var p krewPlugin
	if err := yaml.UnmarshalStrict(data, &p); err != nil {
		t.Fatal(err)
	}
	if p.APIVersion != "krew.googlecontainertools.github.com/v1alpha2" || p.Kind != "Plugin" || p.Metadata["name"] != "coredump" || p.Spec.Version == "" || p.Spec.ShortDescription == "" {
		t.Errorf("manifest is %+v", p)
	}
	seen := map[string]bool{}
	for _, platform := range p.Spec.Platforms {
		l := platform.Selector.MatchLabels
		name, bin := l.OS+"-"+l.Arch, "kubectl-coredump"
		if l.OS == "windows" {
			bin += ".exe"
		}
		if seen[name] || platform.Bin != bin || !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(platform.SHA256) ||
			!strings.HasSuffix(platform.URI, fmt.Sprintf("/%s/kubectl-coredump-%s.tar.gz", p.Spec.Version, name)) {
			t.Errorf("platform is %+v", platform)
		}
		seen[name] = true
	}
	for _, name := range []string{"linux-amd64", "linux-arm64", "darwin-arm64"} {
		if !seen[name] {
			t.Errorf("no %s", name)
		}
	}
}

// kubectl runs what completes a plugin by its name, with the arguments so far.
func TestKubectlFindsCompletion(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(bin+"/kubectl", []byte("#!/bin/sh\nprintf '%s\\n' \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "krew/kubectl_complete-coredump", "info", "-n", "a b", "")
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := cmd.Output()
	if want := "coredump\n__complete\ninfo\n-n\na b\n\n"; err != nil || string(out) != want {
		t.Errorf("%q, %v, want %q", out, err, want)
	}
}
