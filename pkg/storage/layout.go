// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// Key says where a dump is. It is pure data: the namespace, the names and the id, each checked by Validate.
//
//	<namespace>/<pod>/<container>/<id>.core[.zst|.gz]     the body
//	<namespace>/<pod>/<container>/<id>.context.tar.zst    what else is known of the crash (package bundle), where there is any
//	<namespace>/<pod>/<container>/<id>.json               the record
//
// A dump of which nobody could say whose it is has UnknownNamespace, the name of its node for a pod, and UnknownContainer.
type Key struct {
	Namespace, Pod, Container, ID string
}

const (
	// UnknownNamespace stands in place of a namespace where it is not known whose a dump is. No namespace can have this name.
	UnknownNamespace = "_unknown"
	// UnknownContainer is the only container below UnknownNamespace.
	UnknownContainer = "unknown"
)

// Codec is how a body is compressed. It is the suffix of the key without the dot.
type Codec string

// The codecs.
const (
	CodecNone Codec = ""
	CodecZstd Codec = "zst"
	CodecGzip Codec = "gz"
)

const (
	recordSuffix  = ".json"
	bodySuffix    = ".core"
	contextSuffix = ".context.tar.zst"
	idTime        = "20060102t150405z"
)

// Lengths of the components, from the Kubernetes API conventions: a namespace and a container name are
// RFC 1123 labels (63), a pod name is an RFC 1123 subdomain (253). Nothing is escaped: what does not match is refused,
// so no component can hold "/", "..", control characters or a percent sign. Lists check every key, so this is written out and not in regular
// expressions, which take ten times as long; a test compares the two.
const maxLabel = 63

// maxPodName is the length that Kubernetes allows a pod name.
const maxPodName = 253

// NewID makes the id of a dump from the time of the crash and from what identifies the crash. The same
// crash always has the same id, so uploading it twice writes the same keys.
func NewID(crash time.Time, identity ...string) string {
	h := sha256.New()
	for _, s := range identity {
		fmt.Fprintf(h, "%d:%s", len(s), s) // lengths, so that no two lists of strings hash alike
	}
	return crash.UTC().Format(idTime) + "-" + hex.EncodeToString(h.Sum(nil))[:10]
}

// ValidNamespace tells whether s can be the name of a namespace.
func ValidNamespace(s string) bool { return len(s) <= maxLabel && isLabel(s) }

// ValidPod tells whether s can be the name of a pod.
func ValidPod(s string) bool {
	if len(s) > maxPodName {
		return false
	}
	for more := true; more; {
		var part string
		if part, s, more = strings.Cut(s, "."); !isLabel(part) {
			return false
		}
	}
	return true
}

// isLabel tells whether s has letters in lower case, digits and inner hyphens, at least one.
func isLabel(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && (s[i] != '-' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool { return 'a' <= c && c <= 'z' || isDigit(c) }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// ValidContainer tells whether s can be the name of a container.
func ValidContainer(s string) bool { return len(s) <= maxLabel && isLabel(s) }

// Unknown tells whether the dump is one of which nobody could say whose it is.
func (k Key) Unknown() bool { return k.Namespace == UnknownNamespace }

// Validate checks every component. Its error is an ErrInvalid that names the component and what is allowed.
func (k Key) Validate() error {
	for _, c := range []struct {
		what, value, allowed string
		ok                   bool
	}{
		{"namespace", k.Namespace, "a DNS label of at most 63 characters", ValidNamespace(k.Namespace) || k.Unknown()},
		{"pod", k.Pod, "a DNS subdomain of at most 253 characters", ValidPod(k.Pod)},
		{"container", k.Container, "a DNS label of at most 63 characters", ValidContainer(k.Container)},
		{"container", k.Container, UnknownContainer + " where the namespace is " + UnknownNamespace, !k.Unknown() || k.Container == UnknownContainer},
		{"id", k.ID, "<yyyymmdd>t<hhmmss>z-<10 hex digits>", validID(k.ID)},
	} {
		if !c.ok {
			return fmt.Errorf("%w %s %.80q: must be %s", ErrInvalid, c.what, c.value, c.allowed)
		}
	}
	return nil
}

func validID(s string) bool {
	const pattern = "dddddddtddddddz-xxxxxxxxxx"
	if len(s) != len("d")+len(pattern) || !isDigit(s[0]) {
		return false
	}
	for i := range len(pattern) {
		c := s[i+1]
		switch pattern[i] {
		case 'd':
			if !isDigit(c) {
				return false
			}
		case 'x':
			if !isDigit(c) && (c < 'a' || c > 'f') {
				return false
			}
		case c:
		default:
			return false
		}
	}
	_, err := time.Parse(idTime, s[:len("yyyymmddthhmmssz")])
	return err == nil
}

// Time is when the process crashed, to the second. The key must be valid.
func (k Key) Time() time.Time {
	t, _ := time.Parse(idTime, k.ID[:len("yyyymmddthhmmssz")])
	return t
}

// Dir is the prefix under which the dumps of the container are, with "/" at its end.
func (k Key) Dir() string { return k.Namespace + "/" + k.Pod + "/" + k.Container + "/" }

// Record is the key of the record.
func (k Key) Record() string { return k.Dir() + k.ID + recordSuffix }

// Body is the key of the body.
func (k Key) Body(c Codec) string {
	s := k.Dir() + k.ID + bodySuffix
	if c != CodecNone {
		s += "." + string(c)
	}
	return s
}

// Context is the key of the context bundle.
func (k Key) Context() string { return k.Dir() + k.ID + contextSuffix }

// Name is the name of the API object: <pod>.<container>.<id>.
func (k Key) Name() string { return k.Pod + "." + k.Container + "." + k.ID }

// ParseName is the inverse of Key.Name. It splits from the right: neither container nor id contains a dot.
func ParseName(namespace, name string) (Key, error) {
	i := strings.LastIndexByte(name, '.')
	j := strings.LastIndexByte(name[:max(i, 0)], '.')
	if j < 0 {
		return Key{}, fmt.Errorf("%w name %.80q: must be <pod>.<container>.<id>", ErrInvalid, name)
	}
	k := Key{Namespace: namespace, Pod: name[:j], Container: name[j+1 : i], ID: name[i+1:]}
	return k, k.Validate()
}

// Entry is a key of the bucket, understood. It is a body unless it says that it is something else.
type Entry struct {
	Key
	// IsRecord is true for a record.
	IsRecord bool
	// IsContext is true for a context bundle.
	IsContext bool
	// Codec of the body.
	Codec Codec
}

// ParseKey understands a key of the bucket. Keys that do not match the layout exactly give ok=false: they are
// somebody else's, and nothing here touches them.
func ParseKey(s string) (e Entry, ok bool) {
	parts := strings.Split(s, "/")
	if len(parts) != 4 {
		return Entry{}, false
	}
	e.Namespace, e.Pod, e.Container = parts[0], parts[1], parts[2]
	var suffix string
	e.ID, suffix, _ = strings.Cut(parts[3], ".")
	switch "." + suffix {
	case recordSuffix:
		e.IsRecord = true
	case contextSuffix:
		e.IsContext = true
	case bodySuffix:
	case bodySuffix + "." + string(CodecZstd):
		e.Codec = CodecZstd
	case bodySuffix + "." + string(CodecGzip):
		e.Codec = CodecGzip
	default:
		return Entry{}, false
	}
	return e, e.Validate() == nil
}

// String is the key in the bucket.
func (e Entry) String() string {
	switch {
	case e.IsRecord:
		return e.Record()
	case e.IsContext:
		return e.Context()
	}
	return e.Body(e.Codec)
}
