// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
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

// EncodeRecord gives the JSON that lies in the bucket. It fills in what follows from the key and from the
// time of the crash: kind, name, namespace, UID and creation time. The record must be complete otherwise.
func EncodeRecord(k Key, d *v1alpha1.CoreDump) ([]byte, error) {
	d = d.DeepCopy()
	d.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "CoreDump"}
	d.Name, d.Namespace = k.Name(), k.Namespace
	d.UID = types.UID(uuid.NewSHA1(uidSpace, []byte(k.Record())).String())
	d.CreationTimestamp = d.Spec.Process.Time
	d.ResourceVersion = "" // follows from the object in the store
	if err := checkRecord(k, d); err != nil {
		return nil, err
	}
	return json.MarshalIndent(d, "", "  ")
}

// DecodeRecord understands what lies under the record's key of k, written at modified. Its errors are of kind ErrCorrupt.
func DecodeRecord(k Key, data []byte, modified time.Time) (*v1alpha1.CoreDump, error) {
	d := &v1alpha1.CoreDump{}
	if err := json.Unmarshal(data, d); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	if err := checkRecord(k, d); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	// Records are immutable, so the time they were written is as good a version as any; API machinery
	// wants a positive decimal number.
	d.ResourceVersion = strconv.FormatInt(max(modified.UnixNano(), 1), 10)
	return d, nil
}

// checkRecord refuses a record that is not about k or that contradicts itself. It trusts nothing: whoever can write to
// the bucket can write a record.
func checkRecord(k Key, d *v1alpha1.CoreDump) error {
	sum, err := hex.DecodeString(d.Status.SHA256)
	switch {
	case d.APIVersion != v1alpha1.SchemeGroupVersion.String() || d.Kind != "CoreDump":
		return fmt.Errorf("record is a %.40q of %.40q: must be a CoreDump of %s", d.Kind, d.APIVersion, v1alpha1.SchemeGroupVersion)
	case d.Namespace != k.Namespace || d.Name != k.Name():
		return fmt.Errorf("record is about %.80q in %.80q: must be about %q in %q", d.Name, d.Namespace, k.Name(), k.Namespace)
	case d.Spec.PodName != k.Pod || d.Spec.ContainerName != k.Container:
		return fmt.Errorf("record is about pod %.80q, container %.80q: must be about %q, %q", d.Spec.PodName, d.Spec.ContainerName, k.Pod, k.Container)
	case d.Status.Size < 0 || d.Status.StoredSize < 0 || d.Status.PromisedSize < 0:
		return fmt.Errorf("record has a negative size")
	case !Codec(d.Status.Codec).valid():
		return fmt.Errorf("record has codec %.20q: must be %q, %q or none", d.Status.Codec, CodecZstd, CodecGzip)
	case err != nil || len(sum) != 32:
		return fmt.Errorf("record has sha256 %.80q: must be 64 hex digits", d.Status.SHA256)
	}
	return nil
}
