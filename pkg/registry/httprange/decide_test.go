// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package httprange

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const tag = `"0123456789abcdef"`

var all = Representation{Size: 1000, ETag: tag, Seekable: true}

// header makes one of names and values in turn.
func header(fields ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(fields); i += 2 {
		h.Add(fields[i], fields[i+1])
	}
	return h
}

func TestDecide(t *testing.T) {
	empty, unknown, untagged, unseekable := all, all, all, all
	empty.Size, unknown.Size, untagged.ETag, unseekable.Seekable = 0, -1, "", false
	date := "Wed, 01 Jul 2026 12:00:00 GMT"
	for _, test := range []struct {
		name   string
		of     Representation
		header http.Header
		want   string
	}{
		{"everything", all, header(), "200 0+1000"},
		{"first byte", all, header("Range", "bytes=0-0"), "206 0+1"},
		{"some", all, header("Range", "bytes=10-19"), "206 10+10"},
		{"some, in capitals and with blanks", all, header("Range", " Bytes= 10-19 ,"), "206 10+10"},
		{"the rest", all, header("Range", "bytes=990-"), "206 990+10"},
		{"beyond the end", all, header("Range", "bytes=990-2000"), "206 990+10"},
		{"far beyond the end", all, header("Range", "bytes=990-99999999999999999999999"), "206 990+10"},
		{"the last", all, header("Range", "bytes=-10"), "206 990+10"},
		{"more last than there is", all, header("Range", "bytes=-99999999999999999999999"), "206 0+1000"},
		{"all of it as a range", all, header("Range", "bytes=0-999"), "206 0+1000"},
		{"behind the end", all, header("Range", "bytes=1000-"), "416 0+0"},
		{"far behind the end", all, header("Range", "bytes=99999999999999999999999-"), "416 0+0"},
		{"no last bytes", all, header("Range", "bytes=-0"), "416 0+0"},
		{"backwards", all, header("Range", "bytes=5-4"), "416 0+0"},
		{"no numbers", all, header("Range", "bytes=a-b"), "416 0+0"},
		{"negative", all, header("Range", "bytes=--1"), "416 0+0"},
		{"signed", all, header("Range", "bytes=+1-2"), "416 0+0"},
		{"no range", all, header("Range", "bytes=5"), "416 0+0"},
		{"neither", all, header("Range", "bytes=-"), "416 0+0"},
		{"several", all, header("Range", "bytes=0-1,5-6"), "200 0+1000"},
		{"several fields", all, header("Range", "bytes=0-1", "Range", "bytes=5-6"), "200 0+1000"},
		{"other unit", all, header("Range", "lines=0-1"), "200 0+1000"},
		{"empty list", all, header("Range", "bytes=,"), "200 0+1000"},

		{"of nothing", empty, header("Range", "bytes=0-0"), "200 0+0"},
		{"the last of nothing", empty, header("Range", "bytes=-5"), "200 0+0"},
		{"of unknown length", unknown, header("Range", "bytes=0-0"), "200 0+-1"},
		{"of what has no tag", untagged, header("Range", "bytes=0-0"), "200 0+1000"},
		{"of what is read from its start", unseekable, header("Range", "bytes=0-0"), "200 0+1000"},

		{"if it is the same", all, header("Range", "bytes=1-2", "If-Range", tag), "206 1+2"},
		{"if it is another", all, header("Range", "bytes=1-2", "If-Range", `"other"`), "200 0+1000"},
		{"if it is weakly the same", all, header("Range", "bytes=1-2", "If-Range", "W/"+tag), "200 0+1000"},
		{"if it is as old", all, header("Range", "bytes=1-2", "If-Range", date), "200 0+1000"},
		{"behind the end of another", all, header("Range", "bytes=5000-", "If-Range", `"other"`), "200 0+1000"},

		{"not modified", all, header("If-None-Match", tag), "304 0+0"},
		{"not modified, weakly", all, header("If-None-Match", "W/"+tag), "304 0+0"},
		{"not modified, in a list", all, header("If-None-Match", `"a", W/"b,c" ,`+tag), "304 0+0"},
		{"not modified, in a second field", all, header("If-None-Match", `"a"`, "If-None-Match", tag), "304 0+0"},
		{"anything", all, header("If-None-Match", "*"), "304 0+0"},
		{"modified", all, header("If-None-Match", `"other"`), "200 0+1000"},
		{"range of what is not modified", all, header("If-None-Match", tag, "Range", "bytes=0-0"), "304 0+0"},
		{"dates are ignored", all, header("If-Modified-Since", date, "If-Unmodified-Since", date), "200 0+1000"},

		{"must be the same", all, header("If-Match", tag, "Range", "bytes=1-2"), "206 1+2"},
		{"must be another", all, header("If-Match", `"other"`, "Range", "bytes=1-2"), "412 0+0"},
		{"must be the same, weakly", all, header("If-Match", "W/"+tag), "412 0+0"},
		{"must be there", all, header("If-Match", "*"), "200 0+1000"},
		{"must be the same and has no tag", untagged, header("If-Match", tag), "412 0+0"},
		{"no tag at all", all, header("If-Match", "abc"), "412 0+0"},
		{"has no tag and none is asked for", untagged, header("If-None-Match", ""), "200 0+1000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := Decide(http.MethodGet, test.header, test.of)
			if got := fmt.Sprintf("%d %d+%d", a.Code, a.Offset, a.Length); got != test.want {
				t.Errorf("answer is %s, want %s", got, test.want)
			}
		})
	}
	if a := Decide(http.MethodHead, header("Range", "bytes=0-0"), all); a.Code != http.StatusOK || a.Length != 1000 {
		t.Errorf("a range is heeded in a HEAD: %+v", a)
	}
}

func TestHeaderOfAnswers(t *testing.T) {
	unknown := Representation{Size: -1}
	for _, test := range []struct {
		of   Representation
		h    http.Header
		want http.Header
	}{
		{all, header(), header("ETag", tag, "Accept-Ranges", "bytes", "Content-Length", "1000")},
		{all, header("Range", "bytes=0-9"), header("ETag", tag, "Accept-Ranges", "bytes", "Content-Length", "10", "Content-Range", "bytes 0-9/1000")},
		{all, header("Range", "bytes=1000-"), header("ETag", tag, "Accept-Ranges", "bytes", "Content-Range", "bytes */1000")},
		{all, header("If-None-Match", tag), header("ETag", tag, "Accept-Ranges", "bytes")},
		{unknown, header("Range", "bytes=0-9"), header("Accept-Ranges", "none")},
	} {
		got := http.Header{}
		Decide(http.MethodGet, test.h, test.of).SetHeader(got)
		if fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%v: header is %v, want %v", test.h, got, test.want)
		}
	}
}

// FuzzDecide: the answer is within the representation, and the one of net/http, but for where we differ on purpose.
func FuzzDecide(f *testing.F) {
	for _, r := range []string{"", "bytes=0-0", "bytes=5-", "bytes=-5", "bytes=9-5", "bytes=0-1,3-4", "bytes=99-", "lines=0-1", "bytes=-0", "bytes= 1 - 2 ", "bytes=\t1-2"} {
		f.Add(r, "", "", "", int64(50))
		f.Add(r, tag, "", "", int64(0))
		f.Add(r, "", tag, `W/"x", `+tag, int64(1))
	}
	f.Add("bytes=0-0", "*", "*", "*", int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, ranges, ifRange, ifMatch, ifNoneMatch string, size int64) {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		for name, value := range map[string]string{"Range": ranges, "If-Range": ifRange, "If-Match": ifMatch, "If-None-Match": ifNoneMatch} {
			if strings.ContainsAny(value, "\r\n\x00\v\f") { // net/http lets none of them through
				return
			}
			if value != "" {
				req.Header.Set(name, value)
			}
		}
		of := Representation{Size: size, ETag: tag, Seekable: true}
		a := Decide(http.MethodGet, req.Header, of)
		switch {
		case size < 0:
			if a.Code == http.StatusPartialContent {
				t.Fatalf("a part of what has no length: %+v", a)
			}
			return
		case a.Code == http.StatusOK && (a.Offset != 0 || a.Length != size),
			a.Code == http.StatusPartialContent && (a.Offset < 0 || a.Length < 1 || a.Offset >= size || a.Length > size-a.Offset),
			a.Code != http.StatusOK && a.Code != http.StatusPartialContent && (a.Offset != 0 || a.Length != 0):
			t.Fatalf("answer is %+v", a)
		}

		if size > 1<<16 || size == 0 && ranges != "" /* it says "bytes 0--1/0" */ || differs(ranges) || strings.TrimSpace(ifRange) != tag && ifRange != "" {
			return
		}
		w := httptest.NewRecorder()
		w.Header().Set("ETag", tag)
		w.Header().Set("Content-Type", "application/x-tar")
		http.ServeContent(w, req, "", time.Time{}, strings.NewReader(strings.Repeat("x", int(size))))
		got := http.Header{}
		a.SetHeader(got)
		if w.Code != a.Code || a.Code < 300 &&
			(w.Header().Get("Content-Range") != got.Get("Content-Range") || w.Header().Get("Content-Length") != got.Get("Content-Length")) {
			t.Fatalf("%q, %q, %q, %q of %d: %d %v, net/http has %d %v", ranges, ifRange, ifMatch, ifNoneMatch, size, a.Code, got, w.Code, w.Header())
		}
	})
}

// differs tells of a Range where we follow the RFC and net/http does not, or the other way where the RFC leaves the choice.
func differs(ranges string) bool {
	unit, set, ok := strings.Cut(ranges, "=")
	last := strings.Trim(set, " \t,-")
	return ranges != "" && !ok || ok && unit != "bytes" || // other units are to be ignored, and have no capitals
		strings.Contains(set, ",") || // one range only
		strings.ContainsAny(set, "+_") || len(set) > 17 || // what is a number
		strings.Trim(last, "0") == "" || // the last 0 bytes
		strings.TrimSpace(set) == ""
}
