// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"example.io/coredump/pkg/storage"
)

// parse gives what a command line means.
func parse(t *testing.T, args ...string) (*config, error) {
	t.Helper()
	o := newOptions()
	all := pflag.NewFlagSet("nodehandler", pflag.ContinueOnError)
	flags := o.flags()
	for _, fs := range flags.FlagSets {
		all.AddFlagSet(fs)
	}
	must(t, all.Parse(args))
	return o.validate(all.Args())
}

func TestAllProblemsAreReportedAtOnce(t *testing.T) {
	t.Setenv("COREDUMP_STORE", "")
	for flag, says := range map[string]string{
		"":                             "DIRECTORY is missing",
		"--store=":                     "--store is missing: must be",
		"--workers=0":                  "--workers 0: must be from 1 to 64",
		"--compression-workers=65":     "--compression-workers 65: must be from 1 to 64",
		"--compression=lz4":            `--compression: invalid compression "lz4": must be zstd, gzip or none`,
		"--core-name-template=core.%x": "--core-name-template \"core.%x\" has an unknown specifier",
		"--settle=0s":                  "--settle 0s: must be 10ms or more",
		"--rescan-interval=1ms":        "--rescan-interval 1ms: must be 1s or more",
		"--retry-max-backoff=0s":       "--retry-max-backoff 0s: must be",
		"--shutdown-grace=-1s":         "--shutdown-grace -1s: must be 0s or more",
		"--max-size=much":              `--max-size "much": must be`,
		"--default-namespace=A":        `--default-namespace "A": must be a DNS label`,
		"--default-pod=a..b":           `--default-pod "a..b": must be a DNS subdomain`,
		"--default-container=a.b":      `--default-container "a.b": must be a DNS label`,
		"--kubernetes=maybe":           `--kubernetes "maybe": must be auto, required or off`,
	} {
		args := []string{"--workers=0"}
		if flag != "" {
			args = append(args, flag)
		}
		_, err := parse(t, args...)
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "DIRECTORY") || !strings.Contains(err.Error(), "--workers") && flag != "--workers=0" {
			t.Errorf("%s: %v", flag, err)
		}
	}
	if _, err := parse(t, "--store=file:///x", "--kubernetes=off", "--kubeconfig=y", "/d"); err == nil || !strings.Contains(err.Error(), "contradict") {
		t.Error(err)
	}
}

func TestTheDefaultsAreValidAndComeFromTheEnvironment(t *testing.T) {
	t.Setenv("NODE_NAME", "n1")
	t.Setenv("CLUSTER_NAME", "prod")
	t.Setenv("COREDUMP_STORE", "file:///store")
	c, err := parse(t, "/dumps")
	must(t, err)
	if c.dir != "/dumps" || c.nodeName != "n1" || c.clusterName != "prod" || c.store != "file:///store" || c.codec != storage.CodecZstd ||
		c.maxSize != 512<<30 || c.workers != 4 || c.settle != 10*time.Second || c.template.String() != "core-%e-%t-%p-%s" {
		t.Errorf("%+v", c)
	}
}

func TestTheHelpNamesWhatMatters(t *testing.T) {
	cmd := NewCommand(t.Context())
	var out bytes.Buffer
	cmd.SetOut(&out)
	must(t, cmd.Help())
	for _, want := range []string{"Memory:", "DIRECTORY", "--core-name-template", "file:///path", "part-size", "--shutdown-grace", ".aside"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("--help says nothing of %s", want)
		}
	}
}
