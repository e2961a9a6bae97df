// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package dumpdir

import (
	"math"
	"path"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/corefile"
	"example.io/coredump/pkg/storage"
)

// record is what path and name of a file say. All of it is a claim of whoever made the file.
func (r *Rules) record(name string, fields Fields, c Claim, s state) *v1alpha1.CoreDump {
	return &v1alpha1.CoreDump{Spec: v1alpha1.CoreDumpSpec{
		PodName:       c.Pod,
		ContainerName: c.Container,
		Process:       process(fields, crashTime(fields, s)),
		Capture: v1alpha1.Capture{
			Mode:     v1alpha1.CaptureFile,
			Identity: v1alpha1.IdentityClaimed,
			File:     printable(name),
			Handler:  r.Version,
		},
	}, ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace}}
}

// id identifies the file: the same file has the same id for as long as it is not changed.
func (r *Rules) id(name string, crash time.Time, s state) string {
	return storage.NewID(crash, r.NodeName, name, strconv.FormatUint(s.ino, 10), strconv.FormatInt(s.modified().UnixNano(), 10))
}

// process is what the name of a file says about the process.
func process(f Fields, crash time.Time) v1alpha1.Process {
	p := v1alpha1.Process{
		Executable: executable(f),
		Comm:       ascii(f.Text('e')),
		Time:       metav1.NewTime(crash.UTC().Truncate(time.Second)),
	}
	p.PID, _ = f.Number('p', math.MaxInt32)
	p.HostPID, _ = f.Number('P', math.MaxInt32)
	if uid, ok := f.Number('u', math.MaxUint32); ok {
		p.UID = &uid
	}
	if n, ok := f.Number('s', 64); ok {
		p.Signal, p.SignalName = int32(n), corefile.SignalName(int(n))
	}
	return p
}

func executable(f Fields) string {
	switch {
	case f.Text('E') != "": // a path, with "!" for "/"
		return ascii(strings.ReplaceAll(f.Text('E'), "!", "/"))
	case f.Text('f') != "":
		return ascii(f.Text('f'))
	}
	return ascii(f.Text('e'))
}

// earliest is before there were core files of this kind; earlier times are no times.
var earliest = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)

// crashTime is the time in the name, or else when the file was written last. Both can be forged; what cannot be
// right gives way to the change time, which the kernel sets. It depends on nothing but the file, and so is the same at every
// attempt.
func crashTime(f Fields, s state) time.Time {
	latest := s.changed().Add(24 * time.Hour)
	plausible := func(t time.Time) bool { return t.After(earliest) && t.Before(latest) }
	if n, ok := f.Number('t', math.MaxInt64); ok && plausible(time.Unix(n, 0)) {
		return time.Unix(n, 0)
	}
	if plausible(s.modified()) {
		return s.modified()
	}
	return s.changed()
}

// ascii reduces foreign text to printable ASCII.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// printable gives a path as it is where it is printable ASCII, and quoted where it is not.
func printable(name string) string {
	if ascii(name) == name {
		return path.Clean(name)
	}
	return strconv.QuoteToASCII(name)
}
