// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"errors"
	"strings"
	"testing"
	"time"
)

const anID = "20260304t050607z-0123456789"

func TestNamesOfComponents(t *testing.T) {
	label63, label64 := strings.Repeat("a", 63), strings.Repeat("a", 64)
	for _, c := range []struct {
		name                      string
		namespace, pod, container bool
	}{
		{"a", true, true, true}, {"0", true, true, true}, {"a-b", true, true, true}, {"a.b", false, true, false}, {label63, true, true, true}, {label64, false, true, false},
		{strings.Repeat("a.", 126) + "a", false, true, false}, {strings.Repeat("a.", 127), false, false, false}, {strings.Repeat("a", 254), false, false, false},
		{"", false, false, false}, {"-", false, false, false}, {"a-", false, false, false}, {"-a", false, false, false}, {".", false, false, false}, {"..", false, false, false},
		{"a..b", false, false, false}, {"A", false, false, false}, {"a_b", false, false, false}, {"a/b", false, false, false}, {"a\n", false, false, false}, {"a%2f", false, false, false}, {"ä", false, false, false},
	} {
		if ValidNamespace(c.name) != c.namespace || ValidPod(c.name) != c.pod || ValidContainer(c.name) != c.container {
			t.Errorf("%q: namespace %v, pod %v, container %v; want %v, %v, %v", c.name, ValidNamespace(c.name), ValidPod(c.name), ValidContainer(c.name), c.namespace, c.pod, c.container)
		}
	}
}

func TestTheKeysOfADump(t *testing.T) {
	k := Key{"shop", "app.v1-0", "main", anID}
	if err := k.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, got := range map[string]string{
		"shop/app.v1-0/main/" + anID + ".json":            k.Record(),
		"shop/app.v1-0/main/" + anID + ".core":            k.Body(CodecNone),
		"shop/app.v1-0/main/" + anID + ".core.zst":        k.Body(CodecZstd),
		"shop/app.v1-0/main/" + anID + ".core.gz":         k.Body(CodecGzip),
		"shop/app.v1-0/main/" + anID + ".context.tar.zst": k.Context(),
		"shop/app.v1-0/main/":                             k.Dir(),
		"app.v1-0.main." + anID:                           k.Name(),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if want := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC); !k.Time().Equal(want) {
		t.Errorf("got %v, want %v", k.Time(), want)
	}
}

func TestADumpOfNobodyHasAPlaceOfItsOwn(t *testing.T) {
	k := Key{UnknownNamespace, "node-1.example.com", UnknownContainer, anID}
	if err := k.Validate(); err != nil || !k.Unknown() {
		t.Fatal(err)
	}
	if want := "_unknown/node-1.example.com/unknown/" + anID + ".json"; k.Record() != want {
		t.Errorf("got %q, want %q", k.Record(), want)
	}
	checkRoundTrip(t, k)
	if ValidNamespace(UnknownNamespace) {
		t.Errorf("a namespace can be named %s", UnknownNamespace)
	}
	for _, other := range []Key{{UnknownNamespace, "node-1", "main", anID}, {UnknownNamespace, "Node", UnknownContainer, anID}, {"_unknown2", "node-1", UnknownContainer, anID}, {"_", "node-1", UnknownContainer, anID}} {
		if err := other.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: got %v", other, err)
		}
		if _, ok := ParseKey(other.Record()); ok {
			t.Errorf("%s is of the layout", other.Record())
		}
	}
	if k := (Key{"shop", "app", UnknownContainer, anID}); k.Validate() != nil || k.Unknown() {
		t.Errorf("a container may be named %s: %v", UnknownContainer, k.Validate())
	}
}

func TestTheLongestKeyFits(t *testing.T) {
	label := strings.Repeat("a", 63)
	k := Key{label, strings.Repeat("a", 253), label, anID}
	if err := k.Validate(); err != nil {
		t.Fatal(err)
	}
	if n := MaxPrefixSize + 1 + len(k.Context()); n > MaxKeySize {
		t.Errorf("below the longest prefix, the longest key has %d bytes, want at most %d", n, MaxKeySize)
	}
	if err := CheckKey(k.Body(CodecZstd)); err != nil {
		t.Error(err)
	}
}

func TestWhatIsWrongWithAKeyIsSaid(t *testing.T) {
	good := Key{"shop", "app", "main", anID}
	for want, change := range map[string]func(*Key){
		`namespace "Shop"`:                  func(k *Key) { k.Namespace = "Shop" },
		`pod "../x"`:                        func(k *Key) { k.Pod = "../x" },
		`container "a.b"`:                   func(k *Key) { k.Container = "a.b" },
		`id "x"`:                            func(k *Key) { k.ID = "x" },
		`id "20261304t050607z-0123456789"`:  func(k *Key) { k.ID = "20261304t050607z-0123456789" }, // no such month
		`id "20260304t050607z-0123456789a"`: func(k *Key) { k.ID += "a" },
		`id "20260304t050607z-012345678G"`:  func(k *Key) { k.ID = "20260304t050607z-012345678G" },
	} {
		k := good
		change(&k)
		if err := k.Validate(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "must be") {
			t.Errorf("got %v, want it to say %s and what is allowed", err, want)
		}
	}
}

func TestTheIDFollowsFromTheCrash(t *testing.T) {
	at := time.Date(2026, 3, 4, 7, 6, 7, 999, time.FixedZone("", 2*60*60))
	id := NewID(at, "boot", "123")
	if !strings.HasPrefix(id, "20260304t050607z-") || !validID(id) || id != NewID(at, "boot", "123") {
		t.Errorf("got %q", id)
	}
	for _, other := range [][]string{{"boot", "124"}, {"boot1", "23"}, {"boot123"}, {"boot", "123", ""}, nil} {
		if NewID(at, other...) == id {
			t.Errorf("%q has the same id", other)
		}
	}
}

func TestNamesThatAreNone(t *testing.T) {
	for _, name := range []string{"", ".", "..", "app", "app." + anID, "." + anID, "..", "app..", "app.main.x", "app.main." + anID + ".", "app/x.main." + anID} {
		if k, err := ParseName("shop", name); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: got %+v, %v", name, k, err)
		}
	}
	if _, err := ParseName("Shop", "app.main."+anID); !errors.Is(err, ErrInvalid) {
		t.Errorf("a namespace that cannot be: got %v", err)
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("shop", "app.v1-0.main."+anID)
	f.Add("shop", "..")
	f.Add("a", strings.Repeat("a", 300)+".b."+anID)
	f.Fuzz(func(t *testing.T, namespace, name string) {
		k, err := ParseName(namespace, name)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v, want %v", err, ErrInvalid)
			}
			return
		}
		if k.Namespace != namespace || k.Name() != name {
			t.Errorf("%q of %q became %+v", name, namespace, k)
		}
		checkRoundTrip(t, k)
	})
}

func FuzzParseKey(f *testing.F) {
	for _, suffix := range []string{".json", ".core", ".core.zst", ".core.gz", ".core.", ".json.gz", "", ".core.json", ".context.tar.zst", ".context.tar", ".context", ".context.tar.zst.zst"} {
		f.Add("shop/app.v1-0/main/" + anID + suffix)
	}
	f.Add("../../etc/passwd")
	f.Add("_unknown/node-1/unknown/" + anID + ".json")
	f.Add("_unknown/node-1/main/" + anID + ".json")
	f.Fuzz(func(t *testing.T, key string) {
		e, ok := ParseKey(key)
		if !ok {
			return
		}
		if e.String() != key {
			t.Errorf("%q became %q", key, e)
		}
		checkRoundTrip(t, e.Key)
	})
}

// checkRoundTrip checks what holds for every valid key.
func checkRoundTrip(t *testing.T, k Key) {
	t.Helper()
	if got, err := ParseName(k.Namespace, k.Name()); err != nil || got != k {
		t.Errorf("the name of %+v is that of %+v, %v", k, got, err)
	}
	for _, e := range []Entry{{Key: k, IsRecord: true}, {Key: k, IsContext: true}, {Key: k}, {Key: k, Codec: CodecZstd}, {Key: k, Codec: CodecGzip}} {
		s := e.String()
		if got, ok := ParseKey(s); !ok || got != e {
			t.Errorf("%+v became %+v, %v", e, got, ok)
		}
		if err := CheckKey(s); err != nil || MaxPrefixSize+1+len(s) > MaxKeySize || !strings.HasPrefix(s, k.Dir()) || strings.Count(s, "/") != 3 || strings.Contains(s, "..") {
			t.Errorf("key %q: %v", s, err)
		}
	}
}
