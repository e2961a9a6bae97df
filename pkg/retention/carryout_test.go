// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/bundle"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/storage/file"
)

// bucket is a directory with dumps whose age can be chosen.
type bucket struct {
	*file.Bucket
	t   *testing.T
	dir string
}

func newBucket(t *testing.T) *bucket {
	dir := t.TempDir()
	b, err := file.Open(dir, file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &bucket{Bucket: b, t: t, dir: dir}
}

// put stores an object of the given age.
func (b *bucket) put(key, data string, age time.Duration) {
	b.t.Helper()
	if _, err := b.Put(b.t.Context(), key, strings.NewReader(data), storage.PutOptions{}); err != nil {
		b.t.Fatal(err)
	}
	b.age(key, age)
}

func (b *bucket) age(name string, age time.Duration) {
	b.t.Helper()
	at := now.Add(-age)
	if err := os.Chtimes(filepath.Join(b.dir, name), at, at); err != nil {
		b.t.Fatal(err)
	}
}

// commit stores a dump by the protocol.
func (b *bucket) commit(namespace, id string, age time.Duration, from Origin) storage.Key {
	b.t.Helper()
	k := storage.Key{Namespace: namespace, Pod: "pod", Container: "main", ID: storage.NewID(now.Add(-age), id)}
	if k.Unknown() {
		k.Container = storage.UnknownContainer
	}
	beside, err := bundle.Encode([]bundle.File{{Name: "pod.json", Data: []byte(id)}})
	if err != nil {
		b.t.Fatal(err)
	}
	body := storage.Body{Reader: strings.NewReader("core " + id), Codec: storage.CodecZstd, Context: beside}
	sum := sha256.Sum256([]byte(id))
	err = storage.NewDumps(b.Bucket).Commit(b.t.Context(), k, body, func(o storage.Object) (*v1alpha1.CoreDump, error) {
		return &v1alpha1.CoreDump{
			Spec: v1alpha1.CoreDumpSpec{
				PodName: k.Pod, ContainerName: k.Container, NamespaceUID: from.NamespaceUID, ClusterName: from.Cluster,
				Process: v1alpha1.Process{Time: metav1.NewTime(now.Add(-age))},
			},
			Status: v1alpha1.CoreDumpStatus{Size: 1, StoredSize: o.Size, Codec: "zst", SHA256: hex.EncodeToString(sum[:])},
		}, nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.age(k.Record(), age)
	b.age(k.Body(storage.CodecZstd), age)
	b.age(k.Context(), age)
	return k
}

// files are all files of the directory with what is in them.
func (b *bucket) files() map[string]string {
	b.t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(b.dir, path)
		files[name] = string(data)
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return files
}

// gc plans and carries out as the program does.
func gc(t *testing.T, b storage.Bucket, p Policy, living Namespaces, at time.Time) (Result, error) {
	t.Helper()
	inv, err := Scan(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if err := inv.ScanUploads(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	dumps := storage.NewDumps(b)
	if err := p.ReadOrigins(t.Context(), dumps, inv, living, at); err != nil {
		t.Fatal(err)
	}
	return p.Plan(inv, living, at).CarryOut(t.Context(), dumps)
}

func TestWhatIsOutsideOfTheLayoutSurvives(t *testing.T) {
	b := newBucket(t)
	dump := b.commit("a", "1", 100*day, Origin{})
	foreign := []string{
		"README", "a/pod/main/notes.txt", dump.Dir() + dump.ID + ".core.xz", dump.Dir() + dump.ID + ".JSON", dump.Dir() + "x" + dump.ID + ".json",
		"A/pod/main/" + dump.ID + ".json", "a/pod/" + dump.ID + ".core", "a/pod/main/deeper/" + dump.ID + ".core", "a/pod/main/99991399t000000z-0123456789.core",
		strings.Repeat("a", 64) + "/pod/main/" + dump.ID + ".core", dump.Dir() + dump.ID + ".context.tar",
		"_unknown/node/main/" + dump.ID + ".core", "_other/node/unknown/" + dump.ID + ".core",
	}
	for _, key := range foreign {
		b.put(key, "somebody else's "+key, 1000*day)
	}
	want := b.files()
	delete(want, dump.Record())
	delete(want, dump.Body(storage.CodecZstd))
	delete(want, dump.Context())

	everything := Policy{Limits: Limits{MaxAge: 1, MaxBytes: 1, MaxPerContainer: 1}, TotalBytes: 1, OrphanGrace: 1, UploadGrace: 1, GoneGrace: 1}
	if _, err := gc(t, b, everything, Namespaces{}, now); err != nil {
		t.Fatal(err)
	}
	if got := b.files(); !maps.Equal(got, want) {
		t.Errorf("left: %q\nwant: %q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// dying is a bucket whose process dies at the n-th call of Delete.
type dying struct {
	*bucket
	n int
}

var errKilled = fmt.Errorf("killed: %w", storage.ErrUnavailable)

func (d *dying) Delete(ctx context.Context, keys ...string) ([]string, error) {
	if d.n--; d.n < 0 {
		return keys, errKilled
	}
	return d.bucket.Delete(ctx, keys...)
}

func TestKilledAtAnyPointItLeavesNothingButOrphansWhichTheNextRunFinds(t *testing.T) {
	p := Policy{Limits: Limits{MaxAge: day}, OrphanGrace: day}
	for n := range 3 {
		b := newBucket(t)
		for i := range 3 {
			b.commit("a", fmt.Sprint(i), 2*day, Origin{})
		}
		if _, err := gc(t, &dying{bucket: b, n: n}, p, nil, now); (err == nil) != (n == 2) {
			t.Fatalf("killed at %d: %v", n, err)
		}
		inv, err := Scan(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range inv.Dumps {
			if !d.Complete() && (n != 1 || d.record) {
				t.Errorf("killed at %d: left %v", n, d.Entries())
			}
		}
		if _, err := gc(t, b, p, nil, now); err != nil {
			t.Fatal(err)
		}
		if left := b.files(); len(left) != 0 {
			t.Errorf("killed at %d, the next run leaves %q", n, slices.Sorted(maps.Keys(left)))
		}
	}
}

// refusing is a bucket that does not let one key go.
type refusing struct {
	*bucket
	key string
}

func (r *refusing) Delete(ctx context.Context, keys ...string) ([]string, error) {
	rest := slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return k == r.key })
	failed, err := r.bucket.Delete(ctx, rest...)
	if len(rest) < len(keys) {
		return append(failed, r.key), &storage.Error{Op: "delete", Key: r.key, Kind: storage.ErrDenied}
	}
	return failed, err
}

func TestWhatTheStoreRefusesIsCountedAndTheRestGoesOn(t *testing.T) {
	b := newBucket(t)
	kept := b.commit("a", "1", 2*day, Origin{})
	b.commit("a", "2", 2*day, Origin{})
	result, err := gc(t, &refusing{bucket: b, key: kept.Record()}, Policy{Limits: Limits{MaxAge: day}}, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	if result.Removed[RuleMaxAge].N != 1 || result.Failed[RuleMaxAge].N != 1 {
		t.Errorf("result: %+v", result)
	}
	if got, want := slices.Sorted(maps.Keys(b.files())), []string{kept.Context(), kept.Body(storage.CodecZstd), kept.Record()}; !slices.Equal(got, want) {
		t.Errorf("left %q, want the dump that could not be removed, whole: %q", got, want)
	}
}

func TestALeftoverThatChangedSinceItWasListedIsSpared(t *testing.T) {
	p := Policy{OrphanGrace: day}
	for name, change := range map[string]func(*bucket, storage.Key){
		"its record was written":                                      func(b *bucket, k storage.Key) { b.put(k.Record(), "{}", 0) },
		"it was written anew":                                         func(b *bucket, k storage.Key) { b.age(k.Body(storage.CodecNone), 0) },
		"a context was put beside it":                                 func(b *bucket, k storage.Key) { b.put(k.Context(), "", 2*day) },
		"there is more under its key that this version does not know": func(b *bucket, k storage.Key) { b.put(k.Dir()+k.ID+".core.xz", "x", 0) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBucket(t)
			k := storage.Key{Namespace: "a", Pod: "p", Container: "c", ID: storage.NewID(now)}
			b.put(k.Body(storage.CodecNone), "core", 2*day)
			inv, err := Scan(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			plan := p.Plan(inv, nil, now)
			change(b, k)
			want := b.files()
			result, err := plan.CarryOut(t.Context(), storage.NewDumps(b))
			if err != nil || result.Spared != 1 {
				t.Errorf("result %+v, error %v", result, err)
			}
			if got := b.files(); !maps.Equal(got, want) {
				t.Errorf("left %q, want %q", got, want)
			}
		})
	}
}

func TestLeftoversAndUploadsGoAfterTheirGraces(t *testing.T) {
	b := newBucket(t)
	key := func(id string) storage.Key {
		return storage.Key{Namespace: "a", Pod: "p", Container: "c", ID: storage.NewID(now, id)}
	}
	b.put(key("old body").Body(storage.CodecZstd), "x", 25*time.Hour)
	b.put(key("body").Body(storage.CodecZstd), "x", 23*time.Hour)
	b.put(key("old context").Context(), "x", 25*time.Hour)
	b.put(key("context").Context(), "x", 23*time.Hour)
	b.put(key("context of a young body").Context(), "x", 25*time.Hour)
	b.put(key("context of a young body").Body(storage.CodecZstd), "x", 23*time.Hour)
	b.put(key("old record").Record(), "x", 25*time.Hour)
	b.put(key("old record").Context(), "x", 25*time.Hour)
	b.put(key("record").Record(), "x", 23*time.Hour)
	for name, age := range map[string]time.Duration{"old": 25 * time.Hour, "young": 23 * time.Hour} {
		b.unfinished(key(name).Body(storage.CodecZstd), age)
	}
	b.unfinished("not/of/the-layout", 25*time.Hour)

	if _, err := gc(t, b, Policy{OrphanGrace: day, UploadGrace: day}, nil, now); err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(b.objects())), []string{
		key("body").Body(storage.CodecZstd), key("record").Record(), key("context").Context(),
		key("context of a young body").Context(), key("context of a young body").Body(storage.CodecZstd),
	}; !sameKeys(got, want) {
		t.Errorf("objects %q, want %q", got, want)
	}
	var uploads []string
	for u, err := range b.Uploads(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		uploads = append(uploads, u.Key)
	}
	if want := []string{key("young").Body(storage.CodecZstd), "not/of/the-layout"}; !sameKeys(uploads, want) {
		t.Errorf("uploads %q, want %q", uploads, want)
	}
}

func sameKeys(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// objects are the files that are objects.
func (b *bucket) objects() map[string]string {
	objects := b.files()
	maps.DeleteFunc(objects, func(name, _ string) bool { return strings.HasPrefix(name, ".") })
	return objects
}

// unfinished leaves what a process leaves that dies while it uploads.
func (b *bucket) unfinished(key string, age time.Duration) {
	b.t.Helper()
	dies := &dies{b: b, age: age, key: key}
	_, err := b.Put(b.t.Context(), key, dies, storage.PutOptions{})
	if err == nil || dies.left == "" {
		b.t.Fatalf("upload of %s: %v", key, err)
	}
	if err := os.MkdirAll(filepath.Dir(dies.left), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(dies.left, []byte("half"), 0o600); err != nil {
		b.t.Fatal(err)
	}
	name, _ := filepath.Rel(b.dir, dies.left)
	b.age(name, age)
}

// dies is a body that fails in the middle of its upload, having noted the file that the driver writes.
type dies struct {
	b    *bucket
	age  time.Duration
	key  string
	left string
}

func (d *dies) Read([]byte) (int, error) {
	for u, err := range d.b.Uploads(d.b.t.Context()) {
		if err != nil {
			return 0, err
		}
		if u.Key == d.key {
			d.left = filepath.Join(d.b.dir, ".coredump-uploads", u.Key, u.ID)
		}
	}
	return 0, errors.New("died")
}

func TestDumpsOfNamespacesThatAreGoneOrMadeAgainGo(t *testing.T) {
	b := newBucket(t)
	east := Origin{NamespaceUID: "old", Cluster: "east"}
	b.commit("gone", "1", 30*day, east)
	west := b.commit("gone", "2", 30*day, Origin{NamespaceUID: "old", Cluster: "west"})
	b.commit("again", "3", 30*day, east)
	cur := b.commit("again", "4", 8*day, Origin{NamespaceUID: "cur", Cluster: "east"})
	late := b.commit("recently", "5", 30*day, east)
	broken := b.commit("gone", "6", 30*day, east)
	b.put(broken.Record(), "no record", 30*day)
	living := Namespaces{
		"again":    {UID: "cur", Created: now.Add(-10 * day)},
		"recently": {UID: "cur", Created: now.Add(-6 * day)},
	}
	if _, err := gc(t, b, Policy{GoneGrace: 7 * day, Cluster: "east"}, living, now); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, k := range []storage.Key{west, cur, late, broken} {
		want = append(want, k.Record(), k.Body(storage.CodecZstd), k.Context())
	}
	if got := slices.Collect(maps.Keys(b.files())); !sameKeys(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
}

func TestDumpsOfNobodyGoByAgeAndNotForTheirNamespace(t *testing.T) {
	b := &counting{bucket: newBucket(t)}
	old := b.commit(storage.UnknownNamespace, "1", 30*day, Origin{})
	young := b.commit(storage.UnknownNamespace, "2", 9*day, Origin{})
	p := Policy{Limits: Limits{MaxAge: 20 * day}, GoneGrace: 7 * day}
	if _, err := gc(t, b, p, Namespaces{"a": {}}, now); err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Collect(maps.Keys(b.files())), []string{young.Record(), young.Body(storage.CodecZstd), young.Context()}; !sameKeys(got, want) {
		t.Errorf("left %q, want %q and nothing of %s", got, want, old.Record())
	}
	if len(b.opened) != 0 {
		t.Errorf("read %q", b.opened)
	}
}

func TestTheBytesOfContextsCount(t *testing.T) {
	b := newBucket(t)
	b.commit("a", "1", day, Origin{})
	inv, err := Scan(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	var want int64
	for _, data := range b.files() {
		want += int64(len(data))
	}
	if len(inv.Dumps) != 1 || inv.Dumps[0].Bytes != want || len(inv.Dumps[0].Entries()) != 3 || inv.Foreign.N != 0 {
		t.Errorf("got %+v, want one dump of %d bytes", inv, want)
	}
}

// counting is a bucket that counts how many objects are read.
type counting struct {
	*bucket
	opened []string
}

func (c *counting) Open(ctx context.Context, key, etag string, offset, length int64) (io.ReadCloser, error) {
	c.opened = append(c.opened, key)
	return c.bucket.Open(ctx, key, etag, offset, length)
}

func TestRecordsAreReadOnlyWhereTheRuleNeedsThem(t *testing.T) {
	b := &counting{bucket: newBucket(t)}
	b.commit("lives", "1", 30*day, Origin{})
	b.commit("new", "2", 30*day, Origin{})
	b.commit("young", "3", day, Origin{})
	gone := b.commit("gone", "4", 30*day, Origin{})
	living := Namespaces{"lives": {UID: "1", Created: now.Add(-90 * day)}, "new": {UID: "1", Created: now.Add(-day)}}
	if _, err := gc(t, b, Policy{GoneGrace: 7 * day, Limits: Limits{MaxAge: 300 * day}}, living, now); err != nil {
		t.Fatal(err)
	}
	if want := []string{gone.Record()}; !slices.Equal(b.opened, want) {
		t.Errorf("read %q, want %q", b.opened, want)
	}
}

func TestAContextThatEndsEndsTheRun(t *testing.T) {
	b := newBucket(t)
	b.commit("a", "1", 2*day, Origin{})
	inv, err := Scan(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	want := b.files()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Policy{Limits: Limits{MaxAge: day}}.Plan(inv, nil, now).CarryOut(ctx, storage.NewDumps(b))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if got := b.files(); !maps.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
}

// large is a bucket with n dumps that takes no memory.
type large struct {
	storage.Bucket
	n int
}

func (l large) List(context.Context, string, string) iter.Seq2[storage.Object, error] {
	return func(yield func(storage.Object, error) bool) {
		for i := range l.n {
			key := fmt.Sprintf("namespace-%04d/some-deployment-7c5bd8f6cd-%06d/container/20261101t000000z-%010x", i/1000, i/10, i)
			o := storage.Object{Key: key + ".core.zst", Size: 1 << 20, LastModified: now.Add(-time.Duration(i%50) * day), ETag: fmt.Sprint(i)}
			if !yield(o, nil) {
				return
			}
			if o.Key = key + ".json"; !yield(o, nil) {
				return
			}
		}
	}
}

// A million dumps, all of which go, take less than 300 MiB; the CronJob in artifacts allows more.
func TestADumpTakesLessThan300BytesOfMemory(t *testing.T) {
	const n, limit = 100_000, 300
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	inv, err := Scan(t.Context(), large{n: n})
	if err != nil {
		t.Fatal(err)
	}
	plan := Policy{Limits: Limits{MaxAge: 1, MaxBytes: 1 << 30}, TotalBytes: 1 << 40}.Plan(inv, nil, now)
	used := (heap() - before) / n
	if got := plan.Kept.N + len(plan.Actions); got != n {
		t.Errorf("%d dumps, want %d", got, n)
	}
	if used > limit {
		t.Errorf("%d bytes a dump, want at most %d", used, limit)
	}
	t.Logf("%d bytes a dump", used)
	runtime.KeepAlive(inv)
}
