// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

func run(t *testing.T, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := NewCommand(t.Context())
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceUsage = true
	cmd.SilenceErrors = true
	err := cmd.Execute()
	return out.String(), err
}

func TestHelpHasEveryFlagInAGroup(t *testing.T) {
	out, err := run(t, "--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"Store flags:", "Lists flags:", "--watch-interval duration", "--record-cache-size string", "Downloads flags:", "Shutdown flags:", "--store string", "--max-concurrent-downloads int", "(default 32)", "--stall-timeout duration",
		"--drain-timeout duration", "--kubeconfig string", "--audit-policy-file", "--logging-format", "--version"} {
		if !strings.Contains(out, part) {
			t.Errorf("help does not have %q", part)
		}
	}
	// What a server without etcd, admission and API priority has no use for.
	for _, part := range []string{"etcd", "admission", "feature-gates", "enable-priority-and-fairness"} {
		if strings.Contains(out, part) {
			t.Errorf("help has %q", part)
		}
	}
}

func TestVersion(t *testing.T) {
	if out, err := run(t, "--version"); err != nil || !strings.HasPrefix(out, "apiserver version v") {
		t.Errorf("%q, %v", out, err)
	}
}

func TestAllProblemsAreReportedAtOnce(t *testing.T) {
	t.Setenv("COREDUMP_STORE", "")
	_, err := run(t, "--max-concurrent-downloads=0", "--max-concurrent-downloads-per-user=-1", "--compress-workers=1000", "--stall-timeout=1ms", "--presign-ttl=2h", "--watch-interval=1ms", "--record-cache-size=-1", "--drain-timeout=-1s", "--shutdown-delay=-1s", "--secure-port=99999")
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"--store is missing", "s3://", "--max-concurrent-downloads 0: must be", "--max-concurrent-downloads-per-user -1: must be", "--compress-workers 1000: must be", "--stall-timeout 1ms: must be", "--presign-ttl 2h0m0s: must be",
		"--watch-interval 1ms: must be", "--record-cache-size -1: must be",
		"--drain-timeout -1s: must be", "--shutdown-delay -1s: must be", "--secure-port"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

// One user does not take all downloads, however many there are, unless somebody says so.
func TestDownloadsPerUserFollowThoseOfAll(t *testing.T) {
	for all, want := range map[int]int{1: 1, 2: 1, 3: 2, 8: 6, 32: 24} {
		o := newOptions()
		o.maxConcurrentDownloads = all
		if got := o.downloadsPerUser(); got != want {
			t.Errorf("of %d: %d, want %d", all, got, want)
		}
		if o.maxDownloadsPerUser = 5; o.downloadsPerUser() != 5 {
			t.Errorf("of %d: %d, want 5", all, o.downloadsPerUser())
		}
	}
}

func TestStoreThatCannotBeIsNamed(t *testing.T) {
	o := newOptions()
	o.store = "ftp://x"
	if _, err := o.config(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "--store: ") {
		t.Errorf("got %v", err)
	}
}

// Every request for dumps asks kube-apiserver for its namespace. They must not queue for that: at client-go's default, 5 a second, ranges would.
func TestRequestsDoNotQueueForTheirNamespace(t *testing.T) {
	client, err := newClient(&rest.Config{Host: "https://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if qps := client.CoreV1().RESTClient().GetRateLimiter().QPS(); qps < 200 {
		t.Errorf("%v requests a second", qps)
	}
}
