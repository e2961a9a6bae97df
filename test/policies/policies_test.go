// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package policies shows that with the policies in artifacts/s3 every program can do its job and nothing else, against a real S3
// server that enforces them.
package policies

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/bundle"
	"example.io/coredump/pkg/retention"
	"example.io/coredump/pkg/storage"
	drivers3 "example.io/coredump/pkg/storage/s3"
	"example.io/coredump/pkg/storage/storagetest"
)

// The programs, by the names of their accounts.
const (
	nodehandler = "coredump-nodehandler"
	apiserver   = "coredump-apiserver"
	gc          = "coredump-gc"
)

const bucket = "dumps"

// store is a server with the bucket policy in force.
type store struct {
	*storagetest.S3
	prefix string // empty, or ends with "/"
}

func start(t *testing.T, prefix string) *store {
	t.Helper()
	s := &store{prefix: prefix, S3: storagetest.StartS3With(t, storagetest.S3Options{
		Users: map[string]string{nodehandler: "secret-n", apiserver: "secret-a", gc: "secret-g"},
	})}
	s.URL(bucket) // makes it
	policy, err := os.ReadFile("../../artifacts/s3/bucket-policy.json")
	if err != nil {
		t.Fatal(err)
	}
	policy = []byte(strings.NewReplacer("BUCKET", bucket, "PREFIX/", prefix).Replace(string(policy)))
	if _, err := s.client(s.AccessKey, s.SecretKey).PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: aws.String(bucket), Policy: aws.String(string(policy))}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *store) secret(account string) string {
	return map[string]string{nodehandler: "secret-n", apiserver: "secret-a", gc: "secret-g", s.AccessKey: s.SecretKey}[account]
}

func (s *store) client(access, secret string) *s3.Client {
	return s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(s.Endpoint), UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(access, secret, ""),
	})
}

// as opens the bucket with the credentials of the account, as the program does.
func (s *store) as(t *testing.T, account string) *storage.Dumps {
	t.Helper()
	s.SetenvOf(t, account, s.secret(account))
	b, err := drivers3.Open(t.Context(), drivers3.Options{
		Bucket: bucket, Prefix: strings.TrimSuffix(s.prefix, "/"), Endpoint: s.Endpoint, Region: "us-east-1", PathStyle: true, PartSize: 5 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	return storage.NewDumps(b)
}

func TestEveryProgramCanDoItsJob(t *testing.T) {
	for name, prefix := range map[string]string{"in a bucket of its own": "", "in a shared bucket": "cluster/east/"} {
		t.Run(name, func(t *testing.T) {
			s := start(t, prefix)
			for _, size := range []int{1 << 10, 11 << 20} { // in one request, and in parts
				s.job(t, bytes.Repeat([]byte("core"), size/4))
			}
		})
	}
}

// job takes a dump from its commit to its end.
func (s *store) job(t *testing.T, core []byte) {
	t.Helper()
	ctx := t.Context()
	k := storage.Key{Namespace: "shop", Pod: "web-0", Container: "app", ID: storage.NewID(time.Now(), t.Name())}
	sum := sha256.Sum256(core)

	beside, err := bundle.Encode([]bundle.File{{Name: "pod.json", Data: []byte("{}")}})
	if err != nil {
		t.Fatal(err)
	}
	dumps := s.as(t, nodehandler)
	commit := func() error {
		return dumps.Commit(ctx, k, storage.Body{Reader: bytes.NewReader(core), Context: beside}, func(o storage.Object) (*v1alpha1.CoreDump, error) {
			return &v1alpha1.CoreDump{
				Spec:   v1alpha1.CoreDumpSpec{PodName: k.Pod, ContainerName: k.Container, NamespaceUID: "1", Process: v1alpha1.Process{Time: metav1.Now()}},
				Status: v1alpha1.CoreDumpStatus{Size: int64(len(core)), StoredSize: o.Size, SHA256: hex.EncodeToString(sum[:])},
			}, nil
		})
	}
	if err := commit(); err != nil {
		t.Fatalf("nodehandler: %v", err)
	}
	if err := commit(); !errors.Is(err, storage.ErrExists) {
		t.Errorf("nodehandler: committing again: %v, want it to see the record", err)
	}
	if _, err := dumps.Bucket().Put(ctx, k.Body(storage.CodecGzip), io.MultiReader(bytes.NewReader(core), failing{}), storage.PutOptions{}); err == nil {
		t.Error("nodehandler: an upload that fails succeeds")
	}
	for u, err := range s.as(t, s.AccessKey).Bucket().Uploads(ctx) {
		t.Errorf("nodehandler: an upload that failed leaves %v, %v", u, err)
	}

	dumps = s.as(t, apiserver)
	if err := dumps.Bucket().Ping(ctx); err != nil {
		t.Errorf("apiserver: %v", err)
	}
	for l, err := range dumps.List(ctx, storage.Scope{Namespace: "shop"}, "") {
		if err != nil || l.Err != nil {
			t.Fatalf("apiserver: list: %v, %v", err, l.Err)
		}
		r, err := dumps.OpenCore(ctx, l.Record)
		if err != nil {
			t.Fatalf("apiserver: %v", err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, core) {
			t.Errorf("apiserver: %d bytes, %v", len(got), err)
		}
		r.Close()
		if r, err = dumps.OpenContext(ctx, l.Record); err != nil {
			t.Fatalf("apiserver: %v", err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, beside) {
			t.Errorf("apiserver: a context of %d bytes, %v", len(got), err)
		}
		r.Close()
	}

	unfinished := s.prefix + k.Body(storage.CodecGzip)
	if _, err := s.client(nodehandler, s.secret(nodehandler)).CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: &unfinished}); err != nil {
		t.Fatal(err)
	}
	dumps = s.as(t, gc)
	inv, err := retention.Scan(ctx, dumps.Bucket())
	if err != nil {
		t.Fatalf("gc: %v", err)
	}
	if err := inv.ScanUploads(ctx, dumps.Bucket()); err != nil {
		t.Fatalf("gc: %v", err)
	}
	later := time.Now().Add(100 * time.Hour)
	p := retention.Policy{GoneGrace: time.Hour, UploadGrace: time.Hour}
	if err := p.ReadOrigins(ctx, dumps, inv, retention.Namespaces{}, later); err != nil {
		t.Fatalf("gc: %v", err)
	}
	result, err := p.Plan(inv, retention.Namespaces{}, later).CarryOut(ctx, dumps)
	if err != nil || len(result.Failed) > 0 || result.Removed[retention.RuleGoneNamespace].N != 1 || result.Removed[retention.RuleUnfinished].N != 1 {
		t.Errorf("gc: %+v, %v", result, err)
	}
	if inv, err := retention.Scan(ctx, dumps.Bucket()); err != nil || len(inv.Dumps) != 0 {
		t.Errorf("gc: left %v, %v", inv, err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the node went away") }

func TestNoProgramCanDoAnythingElse(t *testing.T) {
	const prefix = "cluster/east/"
	s := start(t, prefix)
	ctx := t.Context()
	root := s.client(s.AccessKey, s.SecretKey)
	beside := prefix + "shop/web-0/app/20261101t000000z-0123456789.context.tar.zst"
	nobodys := prefix + "_unknown/node-1/unknown/20261101t000000z-0123456789"
	body, record := prefix+"shop/web-0/app/20261101t000000z-0123456789.core.zst", prefix+"shop/web-0/app/20261101t000000z-0123456789.json"
	const foreign = "cluster/west/shop/web-0/app/20261101t000000z-0123456789.json"
	restore := func() (upload string) {
		for _, key := range []string{body, record, foreign, beside, nobodys + ".json", nobodys + ".core.zst"} {
			if _, err := root.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(key), Body: strings.NewReader("{}")}); err != nil {
				t.Fatal(err)
			}
		}
		u, err := root.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String(body)})
		if err != nil {
			t.Fatal(err)
		}
		return *u.UploadId
	}
	get := func(key string) func(*s3.Client, string) error {
		return func(c *s3.Client, _ string) error {
			_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
			return err
		}
	}
	put := func(key string) func(*s3.Client, string) error {
		return func(c *s3.Client, _ string) error {
			_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(key), Body: strings.NewReader("{}")})
			return err
		}
	}
	remove := func(key string) func(*s3.Client, string) error {
		return func(c *s3.Client, _ string) error {
			_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
			return err
		}
	}
	list := func(prefix string) func(*s3.Client, string) error {
		return func(c *s3.Client, _ string) error {
			_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String(prefix)})
			return err
		}
	}
	for _, tc := range []struct {
		what string
		do   func(c *s3.Client, upload string) error
		may  []string
	}{
		{"read a body", get(body), []string{apiserver}},
		{"read a record", get(record), []string{nodehandler, apiserver, gc}},
		{"read a context", get(beside), []string{apiserver}},
		{"write a context", put(beside), []string{nodehandler}},
		{"delete a context", remove(beside), []string{gc}},
		{"read a body of nobody", get(nobodys + ".core.zst"), nil},
		{"read a record of nobody", get(nobodys + ".json"), []string{nodehandler, gc}},
		{"write a body of nobody", put(nobodys + ".core.zst"), []string{nodehandler}},
		{"delete a body of nobody", remove(nobodys + ".core.zst"), []string{gc}},
		{"read outside of the prefix", get(foreign), nil},
		{"write a body", put(body), []string{nodehandler}},
		{"write a record", put(record), []string{nodehandler}},
		{"write outside of the prefix", put(foreign), nil},
		{"delete a body", remove(body), []string{gc}},
		{"delete a record", remove(record), []string{gc}},
		{"delete outside of the prefix", remove(foreign), nil},
		{"delete several, one of them outside of the prefix", func(c *s3.Client, _ string) error {
			out, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: aws.String(bucket), Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: aws.String(foreign)}}}})
			if err == nil && len(out.Errors) > 0 {
				err = &smithy.GenericAPIError{Code: *out.Errors[0].Code}
			}
			return err
		}, nil},
		{"list dumps", list(prefix), []string{apiserver, gc}},
		{"list dumps of a namespace", list(prefix + "shop/"), []string{apiserver, gc}},
		{"list outside of the prefix", list("cluster/west/"), nil},
		{"list unfinished uploads", func(c *s3.Client, _ string) error {
			_, err := c.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket), Prefix: aws.String(prefix)})
			return err
		}, []string{gc}},
		{"abort an upload", func(c *s3.Client, upload string) error {
			_, err := c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String(body), UploadId: &upload})
			return err
		}, []string{nodehandler, gc}},
		{"begin an upload", func(c *s3.Client, _ string) error {
			_, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String(body)})
			return err
		}, []string{nodehandler}},
		{"copy a body to where it may be read", func(c *s3.Client, _ string) error {
			// Whatever the answer (versitygw 1.8.0 says 500 where the target is allowed and the source is not): is there a copy?
			_, _ = c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String(bucket), Key: aws.String(prefix + "copy.json"), CopySource: aws.String(bucket + "/" + body)})
			if _, err := root.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String(prefix + "copy.json")}); err == nil {
				return nil
			}
			return &smithy.GenericAPIError{Code: "AccessDenied"}
		}, nil},
		{"read tags", func(c *s3.Client, _ string) error {
			_, err := c.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: aws.String(bucket), Key: aws.String(body)})
			return err
		}, nil},
		{"read the policy", func(c *s3.Client, _ string) error {
			_, err := c.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: aws.String(bucket)})
			return err
		}, nil},
		{"change the policy", func(c *s3.Client, _ string) error {
			_, err := c.DeleteBucketPolicy(ctx, &s3.DeleteBucketPolicyInput{Bucket: aws.String(bucket)})
			return err
		}, nil},
		{"delete the bucket", func(c *s3.Client, _ string) error {
			_, err := c.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: aws.String(bucket)})
			return err
		}, nil},
	} {
		t.Run(tc.what, func(t *testing.T) {
			for _, account := range []string{nodehandler, apiserver, gc, "nobody"} {
				secret := s.secret(account)
				if secret == "" {
					secret = "guessed"
				}
				err := tc.do(s.client(account, secret), restore())
				may := false
				for _, a := range tc.may {
					may = may || a == account
				}
				if may && err != nil {
					t.Errorf("%s: %v", account, err)
				}
				if !may && !denied(err) {
					t.Errorf("%s: %v, want it denied", account, err)
				}
			}
		})
	}
}

func denied(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && (api.ErrorCode() == "AccessDenied" || api.ErrorCode() == "InvalidAccessKeyId")
}
