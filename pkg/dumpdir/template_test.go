// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package dumpdir

import (
	"maps"
	"strings"
	"testing"

	"example.io/coredump/pkg/storage"
)

func TestNamesAreReadFromTheRight(t *testing.T) {
	for _, c := range []struct {
		template, name string
		want           map[byte]string // nil: no match
		codec          storage.Codec
	}{
		{"core-%e-%t-%p-%s", "core-web-1700000000-77-11", map[byte]string{'e': "web", 't': "1700000000", 'p': "77", 's': "11"}, ""},
		{"core-%e-%t-%p-%s", "core-a-1-2-3-1700000000-77-11", map[byte]string{'e': "a-1-2-3", 't': "1700000000", 'p': "77", 's': "11"}, ""},
		{"core-%e-%t-%p-%s", "core---1-2-3.gz", map[byte]string{'e': "-", 't': "1", 'p': "2", 's': "3"}, storage.CodecGzip},
		{"core-%e-%t-%p-%s", "core-a\nb\x1b[31m\xff-1-2-3.zst", map[byte]string{'e': "a\nb\x1b[31m\xff", 't': "1", 'p': "2", 's': "3"}, storage.CodecZstd},
		{"core-%e-%t-%p-%s", "core-web-1700000000-77", nil, ""},
		{"core-%e-%t-%p-%s", "core--1-2-3", nil, ""},
		{"core-%e-%t-%p-%s", "xcore-web-1-2-3", nil, ""},
		{"core-%e-%t-%p-%s", "core-web-1-2-3.tmp", nil, ""},
		{"core-%e-%t-%p-%s", "core-web-1-2-3\n", nil, ""},
		{"core-%e-%t-%p-%s", "core-web-1-2--3", nil, ""},
		{"core-%e-%t-%p-%s", "core-web-1-2-" + strings.Repeat("3", 21), nil, ""},
		{"core.%e.sig%s.%p.%t", "core.my.app.sig6.12.1700000000.gz", map[byte]string{'e': "my.app", 's': "6", 'p': "12", 't': "1700000000"}, storage.CodecGzip},
		{"core.%e.sig%s.%p.%t", "coreXmy.app.sig6.12.1700000000", nil, ""},
		{"core.%p", "core.4711", map[byte]string{'p': "4711"}, ""},
		{"core.%p", "core.", nil, ""},
		{"core", "core", map[byte]string{}, ""},
		{"core", "core.zst", map[byte]string{}, storage.CodecZstd},
		{"core", "core.1", nil, ""},
		{"%h%%%E-%F", "node%!usr!bin!x-", map[byte]string{'h': "node", 'E': "!usr!bin!x", 'F': ""}, ""},
	} {
		template, err := ParseTemplate(c.template)
		if err != nil {
			t.Fatal(err)
		}
		f, ok := template.Match(c.name)
		if ok != (c.want != nil) || ok && (!maps.Equal(f.text, c.want) || f.Codec != c.codec) {
			t.Errorf("%q of %q: %q %v, want %q", c.name, c.template, f.text, ok, c.want)
		}
	}
}

func TestAWrongTemplateSaysWhatIsAllowed(t *testing.T) {
	for _, c := range []struct{ template, says string }{
		{"", "core.%p"},
		{"/cores/core", "slash"},
		{"core.%x", "%e"},
		{"core.%", "%e"},
		{"%p-%p", "once"},
		{strings.Repeat("x", 128), "127"},
	} {
		if _, err := ParseTemplate(c.template); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v", c.template, err)
		}
	}
}

func TestTheClaimIsThePathAndThenTheDefaults(t *testing.T) {
	defaults := Claim{"ns", "pod", "c"}
	for _, c := range []struct {
		path     string
		defaults Claim
		want     Claim
		says     string
	}{
		{"team/web-0/app/core", Claim{}, Claim{"team", "web-0", "app"}, ""},
		{"team/web-0/app/deep/er/core", defaults, Claim{"team", "web-0", "app"}, ""},
		{"team/web-0/core", defaults, Claim{"team", "web-0", "c"}, ""},
		{"core", defaults, defaults, ""},
		{"core", Claim{Namespace: "ns", Container: "c"}, Claim{"ns", "host", "c"}, ""},
		{"core", Claim{}, Claim{}, "no namespace"},
		{"team/web-0/core", Claim{}, Claim{}, "no container"},
		{"TEAM/web-0/app/core", defaults, Claim{}, "cannot be the name of a namespace"},
		{"team/web\n0/app/core", defaults, Claim{}, `"web\n0" cannot be the name of a pod`},
		{"team/web-0/a.b/core", defaults, Claim{}, "cannot be the name of a container"},
	} {
		got, err := claim(c.path, Fields{text: map[byte]string{'h': "host"}}, c.defaults)
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q: %v, want %q", c.path, err, c.says)
			}
		} else if err != nil || got != c.want {
			t.Errorf("%q: %v, %v", c.path, got, err)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("core-%e-%t-%p-%s", "core-a-b-1-2-3")
	f.Add("core.%e.sig%s.%p.%t", "core.x.sig11.1.2.gz")
	f.Add("%h%%%E-%F%P%i%I%u%g%d%c%C%f", "a%b-1111111111x")
	f.Fuzz(func(t *testing.T, template, name string) {
		tmpl, err := ParseTemplate(template)
		if err != nil {
			return
		}
		fields, ok := tmpl.Match(name)
		if !ok {
			return
		}
		// What was read, written again, is what was there.
		var again strings.Builder
		for i := 0; i < len(template); i++ {
			if template[i] != '%' {
				again.WriteByte(template[i])
				continue
			}
			if i++; template[i] == '%' {
				again.WriteByte('%')
			} else {
				again.WriteString(fields.Text(template[i]))
			}
		}
		if fields.Codec != storage.CodecNone {
			again.WriteString("." + string(fields.Codec))
		}
		if again.String() != name {
			t.Fatalf("%q of %q is read as %q", name, template, again.String())
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add("team/web-0/app", "core-a\x1b-1700000000-77-11", int64(1), int64(1))
	f.Add("a/b/c", "core-\xff\xfe-99999999999999999999-99999999999-999", int64(-1<<62), int64(1<<62))
	template, err := ParseTemplate("core-%e-%t-%p-%s")
	if err != nil {
		f.Fatal(err)
	}
	rules := Rules{Template: template, Defaults: Claim{"ns", "pod", "c"}, NodeName: "n"}
	f.Fuzz(func(t *testing.T, dir, name string, mtime, ctime int64) {
		fields, ok := template.Match(name)
		if !ok {
			return
		}
		c, err := claim(dir+"/"+name, fields, rules.Defaults)
		if err != nil {
			return
		}
		s := state{ino: 1}
		s.mtime.Sec, s.ctime.Sec = mtime, min(max(ctime, 0), 1<<34)
		rec := rules.record(dir+"/"+name, fields, c, s)
		rec.Status.SHA256 = strings.Repeat("0", 64)
		key := storage.Key{Namespace: c.Namespace, Pod: c.Pod, Container: c.Container, ID: rules.id(name, rec.Spec.Process.Time.Time, s)}
		data, err := storage.EncodeRecord(key, rec)
		if err != nil {
			t.Fatalf("what is claimed as %+v cannot be stored: %v", c, err)
		}
		for _, b := range data {
			if b != '\n' && (b < ' ' || b > '~') {
				t.Fatalf("a record with byte %#x: %q", b, data)
			}
		}
	})
}
