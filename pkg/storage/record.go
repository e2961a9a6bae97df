// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// MaxRecordSize bounds a record in bytes. A record is a few KiB; whatever is longer was not written by us.
const MaxRecordSize = 1 << 20

// uidSpace is the name space of the UIDs of CoreDumps (RFC 9562, version 5): a UID follows from the key.
var uidSpace = uuid.MustParse("6f0a5bd0-5f0c-4d5a-9d5e-3f6d7c1b2a90")

// MaxSize bounds the sizes in a record, in bytes: beyond what any store takes, and such that sums do not overflow.
const MaxSize = 1 << 50

// EncodeRecord gives the JSON that lies in the bucket. It fills in what follows from the key (kind and metadata but for the
// labels) and reduces all texts to printable ASCII of bounded length. The record must be complete otherwise.
func EncodeRecord(k Key, d *v1alpha1.CoreDump) ([]byte, error) {
	d = d.DeepCopy()
	identify(k, d)
	if err := checkRecord(k, d); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(d, "", "  ")
	if err == nil && len(data) > MaxRecordSize {
		err = fmt.Errorf("%w record of %d bytes: at most %d are allowed", ErrInvalid, len(data), MaxRecordSize)
	}
	return data, err
}

// DecodeRecord understands what lies under the record's key of k, written at modified. Its errors are of kind ErrCorrupt. What whoever
// wrote it may have forged, it does not pass on: metadata follows from the key, texts are printable and bounded.
func DecodeRecord(k Key, data []byte, modified time.Time) (*v1alpha1.CoreDump, error) {
	if len(data) > MaxRecordSize {
		return nil, fmt.Errorf("%w: record of %d bytes: at most %d are allowed", ErrCorrupt, len(data), MaxRecordSize)
	}
	d := &v1alpha1.CoreDump{}
	if err := json.Unmarshal(data, d); err != nil {
		return nil, fmt.Errorf("%w: %.200s", ErrCorrupt, printable(err.Error()))
	}
	if err := checkRecord(k, d); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	identify(k, d)
	// Records are immutable, so the time they were written is as good a version as any; API machinery
	// wants a positive decimal number.
	d.ResourceVersion = strconv.FormatInt(max(modified.UnixNano(), 1), 10)
	return d, nil
}

// identify gives d what follows from its key, in place of whatever it said of that itself, and cleans its texts. Of the metadata
// only the labels are the record's own: an owner, a finalizer or a deletion time would make others act on it.
func identify(k Key, d *v1alpha1.CoreDump) {
	d.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "CoreDump"}
	d.ObjectMeta = metav1.ObjectMeta{
		Name: k.Name(), Namespace: k.Namespace,
		UID:               types.UID(uuid.NewSHA1(uidSpace, []byte(k.Record())).String()),
		CreationTimestamp: metav1.Time{Time: k.Time().Local()},
		Labels:            cleanLabels(d.Labels),
	}
	if k.Unknown() {
		d.Spec.Capture.Identity = v1alpha1.IdentityUnknown
	}
	if d.Spec.Process.Time.IsZero() {
		d.Spec.Process.Time = d.CreationTimestamp
	}
	cutLists(d.Status.Summary)
	for _, text := range texts(d) {
		*text = printable(*text)
	}
}

// checkRecord refuses a record that is not about k or that contradicts itself. It trusts nothing: whoever can write to
// the bucket can write a record.
func checkRecord(k Key, d *v1alpha1.CoreDump) error {
	if err := k.Validate(); err != nil {
		return err
	}
	switch {
	case d.APIVersion != v1alpha1.SchemeGroupVersion.String() || d.Kind != "CoreDump":
		return fmt.Errorf("record is a %.40q of %.40q: must be a CoreDump of %s", d.Kind, d.APIVersion, v1alpha1.SchemeGroupVersion)
	case d.Namespace != k.Namespace || d.Name != k.Name():
		return fmt.Errorf("record is about %.80q in %.80q: must be about %q in %q", d.Name, d.Namespace, k.Name(), k.Namespace)
	case d.Spec.PodName != k.Pod || d.Spec.ContainerName != k.Container:
		return fmt.Errorf("record is about pod %.80q, container %.80q: must be about %q, %q", d.Spec.PodName, d.Spec.ContainerName, k.Pod, k.Container)
	case !k.Unknown() && d.Spec.Capture.Identity == v1alpha1.IdentityUnknown:
		return fmt.Errorf("record has identity %q: must be so below %s alone", d.Spec.Capture.Identity, UnknownNamespace)
	case !validSize(d.Status.Size) || !validSize(d.Status.StoredSize) || !validSize(d.Status.PromisedSize):
		return fmt.Errorf("record has sizes %d, %d, %d: must be from 0 to %d", d.Status.Size, d.Status.StoredSize, d.Status.PromisedSize, int64(MaxSize))
	case !Codec(d.Status.Codec).valid():
		return fmt.Errorf("record has codec %.20q: must be %q, %q or none", d.Status.Codec, CodecZstd, CodecGzip)
	case !validSHA256(d.Status.SHA256):
		return fmt.Errorf("record has sha256 %.80q: must be 64 hex digits in lower case", d.Status.SHA256)
	}
	return checkContext(d.Status.Context)
}

func validSHA256(s string) bool {
	sum, err := hex.DecodeString(s)
	return err == nil && len(sum) == sha256.Size && s == hex.EncodeToString(sum)
}

func validSize(n int64) bool { return 0 <= n && n <= MaxSize }
