// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Bucket is the bucket of every store.
const Bucket = "coredumps"

// root is the account that owns the bucket. Our programs have accounts of their own.
const root = "root"

// Store is a running S3 server with one bucket and an account for each of our programs, which may do what the policies in
// artifacts/s3 say.
type Store struct {
	// Endpoint is the URL of the server.
	Endpoint string

	dir, binary string
	process     *Process
}

// StartStore runs the S3 server (the program) with its data below dir and puts the bucket policy in force.
func StartStore(ctx context.Context, dir, program, policy string) (*Store, error) {
	return StartStoreAt(ctx, "127.0.0.1", dir, program, policy)
}

// StartStoreAt is StartStore on another address of this machine.
func StartStoreAt(ctx context.Context, address, dir, program, policy string) (*Store, error) {
	s := &Store{dir: dir, binary: program}
	for _, d := range []string{"buckets", "accounts"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	if err := s.writeAccounts(); err != nil {
		return nil, err
	}
	ports, err := FreePorts(1)
	if err != nil {
		return nil, err
	}
	s.Endpoint = "http://" + net.JoinHostPort(address, ports[0])
	if err := s.Start(ctx); err != nil {
		return s, err
	}
	client := s.client()
	if _, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(Bucket)}); err != nil {
		return s, err
	}
	document, err := os.ReadFile(policy)
	if err != nil {
		return s, err
	}
	_, err = client.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{
		Bucket: aws.String(Bucket),
		Policy: aws.String(strings.NewReplacer("BUCKET", Bucket, "PREFIX/", "").Replace(string(document))),
	})
	return s, err
}

// writeAccounts writes the server's list of accounts. The secret of an account is its name with "-secret" behind it.
func (s *Store) writeAccounts() error {
	type account struct {
		Access string `json:"access"`
		Secret string `json:"secret"`
		Role   string `json:"role"`
	}
	accounts := map[string]account{}
	for _, name := range []string{"coredump-nodehandler", "coredump-apiserver", "coredump-gc"} {
		accounts[name] = account{name, secret(name), "user"}
	}
	data, err := json.Marshal(map[string]any{"accessAccounts": accounts})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, "accounts", "users.json"), data, 0o600)
}

func secret(account string) string { return account + "-secret" }

// Start runs the server again after Kill, with the same data and address.
func (s *Store) Start(ctx context.Context) (err error) {
	s.process, err = StartProcess(s.dir, "s3server", nil, s.binary, "-dir", filepath.Join(s.dir, "buckets"), "-iam-dir", filepath.Join(s.dir, "accounts"),
		"-addr", strings.TrimPrefix(s.Endpoint, "http://"), "-access", root, "-secret", secret(root))
	if err != nil {
		return err
	}
	client := s.client()
	return s.process.WaitFor(ctx, func(ctx context.Context) error {
		_, err := client.ListBuckets(ctx, &s3.ListBucketsInput{})
		return err
	})
}

// Kill ends the server with SIGKILL.
func (s *Store) Kill() { s.process.Kill() }

// Signal sends the server a signal: SIGSTOP makes a store that stands still, SIGCONT lets it go on.
func (s *Store) Signal(sig os.Signal) error { return s.process.Signal(sig) }

// Data is the directory that holds the objects of the bucket.
func (s *Store) Data() string { return filepath.Join(s.dir, "buckets", Bucket) }

// URL is what our programs take as --store.
func (s *Store) URL() string {
	q := url.Values{"endpoint": {s.Endpoint}, "region": {"us-east-1"}, "path-style": {"true"}}
	return fmt.Sprintf("s3://%s?%s", Bucket, q.Encode())
}

// Env are the credentials of an account as environment variables.
func (s *Store) Env(account string) []string {
	return []string{"AWS_ACCESS_KEY_ID=" + account, "AWS_SECRET_ACCESS_KEY=" + secret(account)}
}

func (s *Store) client() *s3.Client {
	return s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(s.Endpoint), UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(root, secret(root), ""),
	})
}

// RootEnv are the credentials of the owner of the bucket as environment variables.
func (s *Store) RootEnv() []string { return s.Env(root) }
