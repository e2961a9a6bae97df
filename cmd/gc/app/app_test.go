// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/buckets"
	"example.io/coredump/pkg/storage/file"
)

var update = flag.Bool("update", false, "write testdata anew")

var now = time.Date(2026, 11, 21, 4, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

// world is what a run of gc sees.
type world struct {
	t      *testing.T
	dir    string
	client kubernetes.Interface
	bucket func(storage.Bucket) storage.Bucket // wraps the bucket, if set
	out    string
	log    string
}

func newWorld(t *testing.T, namespaces ...string) *world {
	var objects []runtime.Object
	for _, name := range append(namespaces, "kube-system") {
		objects = append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(now.Add(-365 * day))}})
	}
	return &world{t: t, dir: t.TempDir(), client: fake.NewClientset(objects...)}
}

// run runs gc with the store and the arguments.
func (w *world) run(args ...string) int {
	w.t.Helper()
	return w.runIn(w.t.Context(), append([]string{"--store=file://" + w.dir}, args...)...)
}

func (w *world) runIn(ctx context.Context, args ...string) int {
	w.t.Helper()
	w.t.Cleanup(func() { _ = logsapi.ResetForTest(nil) })
	_ = logsapi.ResetForTest(nil)
	var out, log bytes.Buffer
	a := &App{
		Out: &out, Err: &out,
		OpenBucket: func(ctx context.Context, url string) (storage.Bucket, error) {
			b, err := buckets.Open(ctx, url)
			if err == nil && w.bucket != nil {
				b = w.bucket(b)
			}
			return b, err
		},
		Client: func(string) (kubernetes.Interface, error) { return w.client, nil },
		Now:    func() time.Time { return now },
	}
	ctx = klog.NewContext(ctx, textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&log))))
	code := a.Run(ctx, args)
	w.out, w.log = out.String(), log.String()
	return code
}

// dump stores record and body of a dump, as <namespace>/<pod>/<container>, of the given age.
func (w *world) dump(name string, age time.Duration, size int) storage.Key {
	w.t.Helper()
	parts := strings.Split(name, "/")
	k := storage.Key{Namespace: parts[0], Pod: parts[1], Container: parts[2], ID: storage.NewID(now.Add(-age), name)}
	w.put(k.Body(storage.CodecZstd), strings.Repeat("x", size), age)
	w.put(k.Record(), fmt.Sprintf(`{"apiVersion": "coredump.example.io/v1alpha1", "kind": "CoreDump", "metadata": {"name": %q, "namespace": %q},
		"spec": {"podName": %q, "containerName": %q, "process": {"time": null}}, "status": {"size": 1, "storedSize": 1, "sha256": %q}}`,
		k.Name(), k.Namespace, k.Pod, k.Container, strings.Repeat("0", 64)), age)
	return k
}

func (w *world) put(key, data string, age time.Duration) {
	w.t.Helper()
	b, err := file.Open(w.dir, file.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := b.Put(w.t.Context(), key, strings.NewReader(data), storage.PutOptions{}); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(w.dir, key), now.Add(-age), now.Add(-age)); err != nil {
		w.t.Fatal(err)
	}
}

// files are all files of the store with what is in them.
func (w *world) files() map[string]string {
	w.t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(w.dir, path)
		files[name] = string(data)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return files
}

// left says of which pods there are records.
func (w *world) left() (pods []string) {
	for name := range w.files() {
		if e, ok := storage.ParseKey(name); ok && e.IsRecord {
			pods = append(pods, e.Pod)
		}
	}
	slices.Sort(pods)
	return pods
}

func (w *world) want(code, wantCode int, left ...string) {
	w.t.Helper()
	if code != wantCode {
		w.t.Errorf("exit code %d, want %d\n%s%s", code, wantCode, w.out, w.log)
	}
	if got := w.left(); !slices.Equal(got, left) {
		w.t.Errorf("left %q, want %q\n%s", got, left, w.log)
	}
	if n := strings.Count(w.log, `"[coredump] GC"`); n != 1 && wantCode != exitUsage {
		w.t.Errorf("%d lines sum up, want 1:\n%s", n, w.log)
	}
}

func (w *world) contains(in, want string) {
	w.t.Helper()
	if !strings.Contains(in, want) {
		w.t.Errorf("no %q in:\n%s", want, in)
	}
}

func TestDryRunPrintsThePlanAndRemovesNothing(t *testing.T) {
	w := newWorld(t, "payments", "shop")
	for i := range 4 {
		w.dump("payments/api-0/main", time.Duration(10+i)*day, 1<<20)
	}
	w.dump("payments/worker-7c5bd8f6cd-x2x9k/sidecar", 45*day, 300<<10)
	w.dump("shop/checkout/app", 2*day, 3<<20)
	w.dump("shop/checkout/app", day, 20<<20)
	w.dump("left-the-cluster/job/main", 50*day, 5<<10)
	w.dump("kept/pod/main", time.Hour, 5<<10)
	orphan := w.dump("shop/orphan/app", 3*day, 1<<10)
	if err := os.Remove(filepath.Join(w.dir, orphan.Record())); err != nil {
		t.Fatal(err)
	}
	w.put("somebody/elses", "file", 0)
	before := w.files()

	code := w.run("--dry-run", "--max-age=30d", "--max-per-container=3", "--max-bytes-per-namespace=10Mi", "--gone-namespace-grace=7d")
	if code != exitDone {
		t.Errorf("exit code %d\n%s", code, w.log)
	}
	if got := w.files(); !maps.Equal(got, before) {
		t.Errorf("left %q, want %q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(before)))
	}
	golden := filepath.Join("testdata", "plan.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(w.out), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if w.out != string(want) {
		t.Errorf("got\n%s\nwant (go test -update writes it anew)\n%s", w.out, want)
	}
}

func TestARunRemovesWhatTheRulesSayAndNothingElse(t *testing.T) {
	w := newWorld(t, "a")
	w.dump("a/old/main", 31*day, 10)
	w.dump("a/young/main", 29*day, 10)
	foreign := map[string]string{"a/old/notes.txt": "mine", "reports/2020/q1.json": "mine too"}
	for name, data := range foreign {
		w.put(name, data, 1000*day)
	}
	w.want(w.run("--max-age=30d"), exitDone, "young")
	files := w.files()
	for name, data := range foreign {
		if files[name] != data {
			t.Errorf("%s is %q, want %q", name, files[name], data)
		}
	}
	w.contains(w.log, "removed=1")
	w.contains(w.log, "kept=1")
	w.contains(w.log, "foreign=2")
}

func TestAllProblemsAreReportedAtOnceAndNothingIsDone(t *testing.T) {
	w := newWorld(t)
	w.dump("a/old/main", 100*day, 10)
	bad := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(bad, []byte("namespaces: {a: {maxAge: soon, keepLast: -1}, a/b: {}, _known: {}, b: {maxPerContainer: 1, keepLast: 2}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	code := w.runIn(t.Context(), "--store=ftp://x", "--max-age=30m", "--keep-last=-1", "--max-per-container=-1", "--max-bytes=lots", "--max-bytes-per-namespace=-1Gi",
		"--orphan-grace=1s", "--unfinished-upload-grace=x", "--gone-namespace-grace=-5d", "--timeout=-1s", "--metrics-textfile=x", "--push-gateway=x", "--config="+bad)
	w.want(code, exitUsage, "old")
	for _, want := range []string{
		"--store", "--max-age 30m: must be at least 1h", "--keep-last -1", "--max-per-container -1", `--max-bytes "lots": must be a number of bytes`,
		`--max-bytes-per-namespace "-1Gi"`, "--orphan-grace 1s: must be at least 1h", "--unfinished-upload-grace", "--gone-namespace-grace", "--timeout -1s",
		"--metrics-textfile", "--push-gateway", `namespaces.a.maxAge "soon"`, "namespaces.a.keepLast -1", `"a/b": must be the name of a namespace`, `"_known": must be the name of a namespace`,
		"namespaces.b.maxPerContainer 1: must be at least the 2 of keepLast",
	} {
		w.contains(w.out, want)
	}
}

func TestBadCommandLinesAreRefused(t *testing.T) {
	for _, args := range [][]string{{}, {"--store=file:///tmp", "--no-such-flag"}, {"--store=file:///tmp", "argument"}, {"--config=/nonexistent", "--store=file:///tmp"}} {
		w := newWorld(t)
		if code := w.runIn(t.Context(), args...); code != exitUsage || w.out == "" {
			t.Errorf("%q: exit code %d, output %q", args, code, w.out)
		}
	}
}

func TestLimitsOfANamespaceHoldInPlaceOfTheFlags(t *testing.T) {
	w := newWorld(t)
	w.dump("a/old-a/main", 31*day, 10)
	w.dump("b/old-b/main", 31*day, 10)
	w.dump("c/young-c/main", 2*day, 10)
	w.dump("d/old-d/main", 31*day, 10)
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("namespaces:\n  a: {maxAge: 90d}\n  b: {maxAge: \"0\"}\n  c: {maxAge: 1d}\n  d: {maxBytes: 1Gi}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.want(w.run("--max-age=30d", "--config="+policy), exitDone, "old-a", "old-b")
}

func TestDumpsOfNobodyHaveLimitsOfTheirOwnAndNoNamespaceThatIsGone(t *testing.T) {
	w := newWorld(t, "a")
	w.dump("_unknown/old-node/unknown", 20*day, 10)
	w.dump("_unknown/node/unknown", 2*day, 10)
	w.dump("a/pod/main", 20*day, 10)
	w.want(w.run("--gone-namespace-grace=7d", "--max-age=30d"), exitDone, "node", "old-node", "pod")
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("namespaces: {_unknown: {maxAge: 3d}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.want(w.run("--gone-namespace-grace=7d", "--max-age=30d", "--config="+policy), exitDone, "node", "pod")
}

func TestWithoutTheAPITheNamespaceRuleIsSkippedLoudlyAndTheOthersRun(t *testing.T) {
	for name, client := range map[string]*fake.Clientset{"it is away": fake.NewClientset(), "it has no kube-system": fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x"}})} {
		t.Run(name, func(t *testing.T) {
			if name == "it is away" {
				client.PrependReactor("list", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) {
					return true, nil, apierrors.NewServiceUnavailable("away")
				})
			}
			w := newWorld(t)
			w.client = client
			w.dump("a/old/main", 31*day, 10)
			w.dump("gone/gone/main", 20*day, 10)
			w.want(w.run("--max-age=30d", "--gone-namespace-grace=7d"), exitIncomplete, "gone")
			w.contains(w.log, "Rule skipped")
			w.contains(w.log, `skippedRules=["gone-namespace"]`)
		})
	}
}

func TestDumpsOfGoneNamespacesOfThisClusterGo(t *testing.T) {
	w := newWorld(t, "a")
	w.dump("a/lives/main", 20*day, 10)
	w.dump("gone/gone/main", 20*day, 10)
	w.want(w.run("--gone-namespace-grace=7d", "--cluster-name=another"), exitDone, "gone", "lives")
	w.want(w.run("--gone-namespace-grace=7d"), exitDone, "lives")
}

// broken is a bucket in which one thing fails.
type broken struct {
	storage.Bucket
	on  string
	err error
}

func (b broken) Delete(ctx context.Context, keys ...string) ([]string, error) {
	if b.on == "delete" {
		return keys, b.err
	}
	return b.Bucket.Delete(ctx, keys...)
}

func (b broken) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Object, error] {
	if b.on == "list" {
		return func(yield func(storage.Object, error) bool) { yield(storage.Object{}, b.err) }
	}
	return b.Bucket.List(ctx, prefix, after)
}

func (b broken) Uploads(ctx context.Context) iter.Seq2[storage.Upload, error] {
	if b.on == "uploads" {
		return func(yield func(storage.Upload, error) bool) { yield(storage.Upload{}, b.err) }
	}
	return b.Bucket.Uploads(ctx)
}

func (b broken) Open(ctx context.Context, key, etag string, offset, length int64) (io.ReadCloser, error) {
	if b.on == "open" {
		return nil, b.err
	}
	return b.Bucket.Open(ctx, key, etag, offset, length)
}

func TestExitCodesTellWhatFailed(t *testing.T) {
	for _, tc := range []struct {
		name, on string
		err      error
		code     int
		left     []string
	}{
		{"all is well", "", nil, exitDone, nil},
		{"the store refuses to delete", "delete", storage.ErrDenied, exitIncomplete, []string{"old"}},
		{"the store goes away", "delete", storage.ErrUnavailable, exitUnavailable, []string{"old"}},
		{"the store is away", "list", storage.ErrUnavailable, exitUnavailable, []string{"old"}},
		{"the store does not let us list", "list", storage.ErrDenied, exitUnavailable, []string{"old"}},
		{"the store does not tell uploads", "uploads", storage.ErrDenied, exitIncomplete, nil},
		{"records cannot be read", "open", storage.ErrDenied, exitIncomplete, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.dump("a/old/main", 31*day, 10)
			w.bucket = func(b storage.Bucket) storage.Bucket {
				return broken{b, tc.on, &storage.Error{Op: tc.on, Key: "k", Kind: tc.err}}
			}
			w.want(w.run("--max-age=30d", "--gone-namespace-grace=1d"), tc.code, tc.left...)
		})
	}
	t.Run("there is no store", func(t *testing.T) {
		w := newWorld(t)
		w.want(w.runIn(t.Context(), "--store=file://"+w.dir+"/nonexistent"), exitUnavailable)
	})
	t.Run("it is stopped", func(t *testing.T) {
		w := newWorld(t)
		w.dump("a/old/main", 31*day, 10)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w.want(w.runIn(ctx, "--store=file://"+w.dir, "--max-age=30d"), exitStopped, "old")
	})
	t.Run("time is up", func(t *testing.T) {
		w := newWorld(t)
		w.dump("a/old/main", 31*day, 10)
		w.want(w.run("--max-age=30d", "--timeout=1ns"), exitStopped, "old")
	})
}

// clocked is a bucket that tells the time.
type clocked struct {
	storage.Bucket
	now time.Time
	err error
}

func (c clocked) ServerTime(context.Context) (time.Time, error) { return c.now, c.err }

func TestAgesCountByTheStoresClockWhereItTellsTheTime(t *testing.T) {
	w := newWorld(t)
	w.dump("a/pod/main", 20*day, 10)
	w.bucket = func(b storage.Bucket) storage.Bucket { return clocked{b, now.Add(-15 * day), nil} } // the local clock runs ahead
	w.want(w.run("--max-age=10d"), exitDone, "pod")
	w.contains(w.log, "The local clock is wrong")

	w.bucket = func(b storage.Bucket) storage.Bucket { return clocked{b, time.Time{}, errors.New("no answer")} }
	w.want(w.run("--max-age=30d"), exitDone, "pod")
	w.contains(w.log, "going by the local clock")
}

func TestTheS3DriverTellsTheTime(t *testing.T) {
	b, err := buckets.Open(t.Context(), "s3://bucket?region=us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := b.(serverClock); !ok {
		t.Errorf("%T does not tell the time", b)
	}
}

func TestMetricsGoToAFileAndToAPushGateway(t *testing.T) {
	var pushed string
	gateway := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		pushed = r.Method + " " + r.URL.Path + " " + string(body)
	}))
	defer gateway.Close()
	w := newWorld(t)
	w.dump("a/old/main", 31*day, 10)
	w.dump("a/young/main", day, 10)
	textfile := filepath.Join(t.TempDir(), "gc.prom")
	w.want(w.run("--max-age=30d", "--metrics-textfile="+textfile, "--push-gateway="+gateway.URL), exitDone, "young")

	text, err := os.ReadFile(textfile)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`coredump_gc_removed_dumps{rule="max-age"} 1`, `coredump_gc_removed_dumps{rule="orphan"} 0`, "coredump_gc_kept_dumps 1",
		"coredump_gc_last_exit_code 0", "coredump_gc_last_success_timestamp_seconds ", "coredump_gc_last_run_timestamp_seconds ",
	} {
		w.contains(string(text), want)
	}
	w.contains(pushed, "POST /metrics/job/coredump-gc")
	w.contains(pushed, "coredump_gc_removed_dumps")

	gateway.Close()
	w.want(w.run("--max-age=30d", "--push-gateway="+gateway.URL), exitIncomplete, "young")
	w.contains(w.log, "Metrics could not be delivered")
}

func TestHelpTellsTheExitCodesAndEveryFlag(t *testing.T) {
	w := newWorld(t)
	if code := w.runIn(t.Context(), "--help"); code != exitDone {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"Exit codes:", "--dry-run", "--gone-namespace-grace", "s3://bucket/prefix", "--logging-format", "--version"} {
		w.contains(w.out, want)
	}
}

func FuzzPolicyFile(f *testing.F) {
	f.Add([]byte("namespaces: {a: {maxAge: 90d, keepLast: 3, maxPerContainer: 5, maxBytes: 1Gi}}"))
	f.Add([]byte("namespaces: {a: {maxAge: \"0\"}}"))
	f.Add([]byte("namespaces: []"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var p problems
		for ns, l := range p.parseOverrides("policy.yaml", data, (&config{}).policy.Limits) {
			if !storage.ValidNamespace(ns) {
				t.Errorf("namespace %q", ns)
			}
			if len(p) == 0 && (l.MaxAge < 0 || l.KeepLast < 0 || l.MaxPerContainer < 0 || l.MaxBytes < 0) {
				t.Errorf("limits %+v", l)
			}
		}
	})
}
