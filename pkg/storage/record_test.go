// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

var aKey = Key{"shop", "app-0", "main", anID}

func aRecord() *v1alpha1.CoreDump {
	return &v1alpha1.CoreDump{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "shop", "example.com/tier": ""}},
		Spec:       v1alpha1.CoreDumpSpec{PodName: "app-0", ContainerName: "main", Process: v1alpha1.Process{Executable: "/app/server", Time: metav1.Time{Time: aKey.Time()}}},
		Status:     v1alpha1.CoreDumpStatus{Size: 10, StoredSize: 5, Codec: "zst", SHA256: strings.Repeat("0f", 32)},
	}
}

func mustEncode(t *testing.T, d *v1alpha1.CoreDump) []byte {
	t.Helper()
	data, err := EncodeRecord(aKey, d)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var written = time.Date(2026, 3, 4, 5, 7, 0, 0, time.UTC)

func TestARecordStaysTheSame(t *testing.T) {
	first := mustEncode(t, aRecord())
	d, err := DecodeRecord(aKey, first, written)
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != aKey.Name() || d.Namespace != "shop" || len(d.UID) != 36 || !d.CreationTimestamp.Time.Equal(aKey.Time()) || d.Kind != "CoreDump" || d.APIVersion != "coredump.example.io/v1alpha1" || d.Labels["app"] != "shop" || len(d.Labels) != 2 {
		t.Errorf("got %+v", d)
	}
	if d.ResourceVersion != fmt.Sprint(written.UnixNano()) {
		t.Errorf("got resource version %s", d.ResourceVersion)
	}
	if again := mustEncode(t, d); string(again) != string(first) {
		t.Errorf("encoded again:\n%s\nfirst:\n%s", again, first)
	}
}

func TestTheResourceVersionIsPositive(t *testing.T) {
	for _, at := range []time.Time{{}, time.Unix(-5, 0)} {
		if d, err := DecodeRecord(aKey, mustEncode(t, aRecord()), at); err != nil || strings.HasPrefix(d.ResourceVersion, "-") || d.ResourceVersion == "0" {
			t.Errorf("written at %v: got %v, %v", at, d, err)
		}
	}
}

func aContext(files ...v1alpha1.ContextFile) *v1alpha1.StoredContext {
	return &v1alpha1.StoredContext{StoredSize: 7, SHA256: strings.Repeat("1e", 32), Files: append(files, v1alpha1.ContextFile{Name: "pod.json", Size: 3})}
}

func TestARecordThatContradictsItselfIsRefused(t *testing.T) {
	for want, change := range map[string]func(*v1alpha1.CoreDump){
		"negative|sizes":   func(d *v1alpha1.CoreDump) { d.Status.Size = -1 },
		"sizes":            func(d *v1alpha1.CoreDump) { d.Status.StoredSize = -1 },
		"sizes 10, 5, -1":  func(d *v1alpha1.CoreDump) { d.Status.PromisedSize = -1 },
		"from 0 to":        func(d *v1alpha1.CoreDump) { d.Status.Size = 1 << 62 },
		`codec "lz4"`:      func(d *v1alpha1.CoreDump) { d.Status.Codec = "lz4" },
		"sha256":           func(d *v1alpha1.CoreDump) { d.Status.SHA256 = "abc" },
		"64 hex digits":    func(d *v1alpha1.CoreDump) { d.Status.SHA256 = "" },
		"lower case":       func(d *v1alpha1.CoreDump) { d.Status.SHA256 = strings.Repeat("AB", 32) },
		`pod "other"`:      func(d *v1alpha1.CoreDump) { d.Spec.PodName = "other" },
		`container "side"`: func(d *v1alpha1.CoreDump) { d.Spec.ContainerName = "side" },
		`below _unknown`:   func(d *v1alpha1.CoreDump) { d.Spec.Capture.Identity = v1alpha1.IdentityUnknown },
		`a context with sha256 "x"`: func(d *v1alpha1.CoreDump) {
			d.Status.Context = aContext()
			d.Status.Context.SHA256 = "x"
		},
		"a context of 9000000 bytes": func(d *v1alpha1.CoreDump) {
			d.Status.Context = aContext()
			d.Status.Context.StoredSize = 9e6
		},
		`name "../x"`:  func(d *v1alpha1.CoreDump) { d.Status.Context = aContext(v1alpha1.ContextFile{Name: "../x"}) },
		"another file": func(d *v1alpha1.CoreDump) { d.Status.Context = aContext(v1alpha1.ContextFile{Name: "pod.json"}) },
		"has -1 bytes": func(d *v1alpha1.CoreDump) { d.Status.Context = aContext(v1alpha1.ContextFile{Name: "a", Size: -1}) },
		"at most 16777216": func(d *v1alpha1.CoreDump) {
			d.Status.Context = aContext(v1alpha1.ContextFile{Name: "a", Size: 1 << 40})
		},
		"context of 65 files": func(d *v1alpha1.CoreDump) { d.Status.Context = aContext(make([]v1alpha1.ContextFile, 64)...) },
	} {
		d := aRecord()
		change(d)
		want, _, _ = strings.Cut(want, "|")
		if _, err := EncodeRecord(aKey, d); err == nil || want != "negative" && !strings.Contains(err.Error(), want) {
			t.Errorf("encoded: got %v, want it to say %s", err, want)
		}
		forged := aRecord()
		identify(aKey, forged)
		change(forged)
		data, err := json.Marshal(forged)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeRecord(aKey, data, written); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: decoded: got %v, want %v", want, err, ErrCorrupt)
		}
	}
	if _, err := EncodeRecord(Key{"Shop", "app-0", "main", anID}, aRecord()); !errors.Is(err, ErrInvalid) {
		t.Errorf("a key that cannot be: got %v", err)
	}
}

func TestWhatCannotBeARecordIsRefused(t *testing.T) {
	good := string(mustEncode(t, aRecord()))
	for name, data := range map[string]string{
		"nothing":         "",
		"null":            "null",
		"no object":       "[]",
		"cut":             good[:len(good)-10],
		"two of them":     good + good,
		"another kind":    strings.Replace(good, `"CoreDump"`, `"Secret"`, 1),
		"another version": strings.Replace(good, "v1alpha1", "v9", 1),
		"another name":    strings.Replace(good, `"app-0.main.`, `"app-1.main.`, 1),
		"another space":   strings.Replace(good, `"namespace": "shop"`, `"namespace": "bank"`, 1),
		"deep":            `{"x":` + strings.Repeat("[", 500_000),
		"deep objects":    strings.Repeat(`{"metadata":`, 50_000),
		"too long":        good + strings.Repeat(" ", MaxRecordSize),
		"a size in words": strings.Replace(good, `"size": 10`, `"size": "ten"`, 1),
		"a huge number":   strings.Replace(good, `"size": 10`, `"size": 1e400`, 1),
	} {
		_, err := DecodeRecord(aKey, []byte(data), written)
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v, want %v", name, err, ErrCorrupt)
		} else if len(err.Error()) > 500 || printable(err.Error()) != err.Error() {
			t.Errorf("%s: the error is not fit for a log: %q", name, err)
		}
	}
}

func TestWhatAForgerPutsIntoMetadataIsNotPassedOn(t *testing.T) {
	d := aRecord()
	identify(aKey, d)
	uid := d.UID
	now := metav1.Now()
	//lint:ignore SA1019 a forger does not care
	d.UID, d.CreationTimestamp, d.DeletionTimestamp, d.ResourceVersion, d.Generation, d.GenerateName, d.SelfLink = "forged", now, &now, "-1", 7, "x", "y"
	d.Finalizers, d.OwnerReferences = []string{"x/y"}, []metav1.OwnerReference{{Kind: "Node", Name: "x", UID: "y"}}
	d.Annotations, d.ManagedFields = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{}"}, []metav1.ManagedFieldsEntry{{Manager: "x"}}
	data, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeRecord(aKey, data, written)
	if err != nil {
		t.Fatal(err)
	}
	want := metav1.ObjectMeta{Name: aKey.Name(), Namespace: "shop", UID: uid, CreationTimestamp: metav1.Time{Time: aKey.Time()}, ResourceVersion: fmt.Sprint(written.UnixNano()), Labels: aRecord().Labels}
	if !apiequality.Semantic.DeepEqual(got.ObjectMeta, want) {
		t.Errorf("got  %+v\nwant %+v", got.ObjectMeta, want)
	}
}

// fill sets every string in v, as far as keep does not say otherwise, to s.
func fill(v reflect.Value, path, s string, keep func(path string) bool) {
	switch v.Kind() {
	case reflect.String:
		if !keep(path) {
			v.SetString(s)
		}
	case reflect.Pointer:
		if v.Type().Elem().PkgPath() == reflect.TypeFor[v1alpha1.CoreDump]().PkgPath() {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), path, s, keep)
		}
	case reflect.Slice:
		if v.Type().Elem().PkgPath() == reflect.TypeFor[v1alpha1.CoreDump]().PkgPath() {
			v.Set(reflect.MakeSlice(v.Type(), 100, 100)) // more than any list may have
			for i := range v.Len() {
				if i > 0 {
					s = s[:min(len(s), 20)] // together they must not be longer than a record may be
				}
				fill(v.Index(i), fmt.Sprintf("%s.%d", path, i), s, keep)
			}
		}
	case reflect.Struct:
		if v.Type().PkgPath() == reflect.TypeFor[v1alpha1.CoreDump]().PkgPath() {
			for i := range v.NumField() {
				fill(v.Field(i), path+"."+v.Type().Field(i).Name, s, keep)
			}
		}
	}
}

func TestEveryTextIsPrintableAndBounded(t *testing.T) {
	checked := func(path string) bool {
		return path == ".Spec.PodName" || path == ".Spec.ContainerName" || path == ".Status.Codec" || path == ".Status.SHA256" ||
			strings.HasPrefix(path, ".Status.Context.")
	}
	for _, s := range []string{"\x1b[2J\x07", "a\nb", "\x00", "\xff\xfe", "\u202egnp", "é", strings.Repeat("x", 2000), strings.Repeat("\x1b", 2000)} {
		forged := aRecord()
		identify(aKey, forged)
		fill(reflect.ValueOf(&forged.Spec).Elem(), ".Spec", s, checked)
		fill(reflect.ValueOf(&forged.Status).Elem(), ".Status", s, checked)
		forged.Status.Context = aContext()
		asForged, err := json.Marshal(forged)
		if err != nil {
			t.Fatal(err)
		}
		for how, data := range map[string][]byte{"encoded": mustEncode(t, forged), "decoded": asForged} {
			if how == "encoded" && strings.ContainsFunc(string(data), func(r rune) bool { return r > '~' || r < ' ' && r != '\n' }) {
				t.Errorf("encoded: %q", data)
			}
			got, err := DecodeRecord(aKey, data, written)
			if err != nil {
				t.Fatal(err)
			}
			if s := got.Status.Summary; len(s.Frames) != 8 || len(s.Others) != 16 || len(s.Modules) != 32 {
				t.Errorf("%s, a summary with %d frames, %d other threads, %d modules", how, len(s.Frames), len(s.Others), len(s.Modules))
			}
			for path, text := range allTexts(reflect.ValueOf(got.Spec), ".Spec", allTexts(reflect.ValueOf(got.Status), ".Status", map[string]string{})) {
				if printable(text) != text || len(text) > maxText {
					t.Errorf("%s, %s has %d bytes: %.100q", how, path, len(text), text)
				}
				if text == "" {
					t.Errorf("%s, %s is empty", how, path)
				}
			}
		}
	}
}

func allTexts(v reflect.Value, path string, into map[string]string) map[string]string {
	switch v.Kind() {
	case reflect.String:
		into[path] = v.String()
	case reflect.Pointer:
		if !v.IsNil() {
			allTexts(v.Elem(), path, into)
		}
	case reflect.Slice:
		for i := range v.Len() {
			allTexts(v.Index(i), fmt.Sprintf("%s.%d", path, i), into)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[metav1.Time]() {
			return into
		}
		for i := range v.NumField() {
			allTexts(v.Field(i), path+"."+v.Type().Field(i).Name, into)
		}
	}
	return into
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                               "",
		`a "quoted" \ one`:               `a "quoted" \ one`,
		"a\nb":                           `a\nb`,
		"é\xff":                          `\u00e9\xff`,
		strings.Repeat("a", 1024):        strings.Repeat("a", 1024),
		strings.Repeat("a", 1025):        strings.Repeat("a", 1021) + "...",
		strings.Repeat("a", 1025) + "\n": strings.Repeat("a", 1021) + "...",
		strings.Repeat("\n", 512):        strings.Repeat(`\n`, 512),
		strings.Repeat("\n", 513):        strings.Repeat(`\n`, 510) + `\...`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%.20q: got %q, want %q", in, got, want)
		}
	}
}

func TestLabelsThatKubernetesWouldNotTakeAreLeftOut(t *testing.T) {
	d := aRecord()
	d.Labels = map[string]string{"app": "shop", "bad key": "x", "bad": "va\nlue", "long": strings.Repeat("x", 64), "": "x", "../x": ""}
	for i := range 2 * maxLabels {
		d.Labels[fmt.Sprintf("z%03d", i)] = "x"
	}
	got, err := DecodeRecord(aKey, mustEncode(t, d), written)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Labels) != maxLabels || got.Labels["app"] != "shop" || got.Labels["z000"] != "x" {
		t.Errorf("there are %d labels", len(got.Labels))
	}
	for name := range got.Labels {
		if name != "app" && !strings.HasPrefix(name, "z") {
			t.Errorf("label %q is there", name)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	good, err := EncodeRecord(aKey, aRecord())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"metadata":{"labels":{"a":"b"},"creationTimestamp":"0000-01-01T00:00:00Z"}}`))
	f.Add([]byte(strings.Replace(string(good), `"/app/server"`, `"\u001b[2J"`, 1)))
	f.Add([]byte(strings.Replace(string(good), `"time": "2026`, `"time": "9999`, 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := DecodeRecord(aKey, data, written)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v, want %v", err, ErrCorrupt)
			}
			return
		}
		if d.Name != aKey.Name() || d.Namespace != aKey.Namespace || d.Spec.PodName != aKey.Pod || d.Status.Size < 0 {
			t.Errorf("got %+v", d)
		}
		for _, text := range texts(d) {
			if printable(*text) != *text {
				t.Errorf("%q is not printable", *text)
			}
		}
		again, err := EncodeRecord(aKey, d)
		if err != nil {
			t.Fatalf("cannot be encoded again: %v", err)
		}
		if back, err := DecodeRecord(aKey, again, written); err != nil || !apiequality.Semantic.DeepEqual(back, d) {
			t.Errorf("encoded again, it is another: %v\n%+v\n%+v", err, back, d)
		}
	})
}
