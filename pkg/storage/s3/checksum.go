// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/crc32"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/crc64nvme"

	"example.io/coredump/pkg/storage"
)

// algorithm is a checksum that the store verifies for every request and returns for the object.
type algorithm struct {
	// name is what users write, and the beginning of storage.Object.Checksum.
	name string
	// sdk is empty for md5, which has a header of its own, Content-MD5, and comes back as the ETag.
	sdk types.ChecksumAlgorithm
	new func() hash.Hash
	// whole tells that the checksum of an object in parts is that of its bytes (FULL_OBJECT); otherwise it is
	// that of the checksums of its parts, followed by "-" and their number (COMPOSITE).
	whole bool
}

var algorithms = []algorithm{
	{"crc64nvme", types.ChecksumAlgorithmCrc64nvme, func() hash.Hash { return crc64nvme.New() }, true},
	{"crc32c", types.ChecksumAlgorithmCrc32c, func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }, false},
	{"sha256", types.ChecksumAlgorithmSha256, sha256.New, false},
	{"md5", "", md5.New, false},
}

// Checksums are the names of the algorithms.
func Checksums() (names []string) {
	for _, a := range algorithms {
		names = append(names, a.name)
	}
	return names
}

func algorithmOf(name string) (algorithm, error) {
	for _, a := range algorithms {
		if a.name == name {
			return a, nil
		}
	}
	return algorithm{}, fmt.Errorf("%w checksum %q: must be one of %s", storage.ErrInvalid, name, strings.Join(Checksums(), ", "))
}

// field chooses the field of the algorithm among those of a request or an answer.
func (a algorithm) field(crc64nvme, crc32c, sha256, md5 **string) **string {
	return map[string]**string{"crc64nvme": crc64nvme, "crc32c": crc32c, "sha256": sha256, "md5": md5}[a.name]
}

func (a algorithm) sum(data []byte) []byte {
	h := a.new()
	h.Write(data)
	return h.Sum(nil)
}

func encode(sum []byte) *string { return aws.String(base64.StdEncoding.EncodeToString(sum)) }

// confirm compares the checksum that the store returned with ours. A store that returns none has not understood what
// it was sent, and has confirmed nothing.
func (a algorithm) confirm(returned *string, sum string) error {
	switch {
	case returned == nil && a.sdk == "":
		return nil // no MD5 as ETag (KMS): the store compared each Content-MD5 when it came
	case returned == nil:
		return fmt.Errorf("%w checksum=%s: the store does not confirm it, so it does not know it; set another of %s in the URL",
			storage.ErrInvalid, a.name, strings.Join(Checksums(), ", "))
	}
	// Some stores leave the number of parts out.
	theirs, _, _ := strings.Cut(*returned, "-")
	ours, _, _ := strings.Cut(sum, "-")
	if theirs != ours {
		return fmt.Errorf("%w: the store has %s %.80s, sent was %s", storage.ErrCorrupt, a.name, *returned, sum)
	}
	return nil
}

// text is the checksum as storage.Object.Checksum has it.
func (a algorithm) text(returned *string, sum string) string {
	if returned == nil {
		return ""
	}
	return a.name + ":" + sum
}

// md5OfETag gives the MD5 in an ETag as the other checksums are given, or nil where the ETag is something else.
func md5OfETag(etag *string) *string {
	digest, parts, inParts := strings.Cut(unquote(etag), "-")
	sum, err := hex.DecodeString(digest)
	if err != nil || len(sum) != md5.Size {
		return nil
	}
	s := encode(sum)
	if inParts {
		s = aws.String(*s + "-" + parts)
	}
	return s
}

// anyChecksum gives what the store has, in the order of algorithms.
func anyChecksum(sums ...*string) string {
	for i, sum := range sums {
		if sum != nil {
			return algorithms[i].name + ":" + *sum
		}
	}
	return ""
}
