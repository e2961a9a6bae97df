// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"example.io/coredump/pkg/storage"
)

const (
	// connectTimeout bounds the TCP handshake.
	connectTimeout = 10 * time.Second
	// maxBackoff bounds the pause between two attempts.
	maxBackoff = 5 * time.Second
)

// load reads the configuration: the SDK's default chain, which has credentials of the environment, of shared files, web identity
// (IRSA), containers (EKS Pod Identity) and instances, with our options over it.
func load(ctx context.Context, opts Options) (aws.Config, error) {
	client := awshttp.NewBuildableClient().WithDialerOptions(func(d *net.Dialer) { d.Timeout = min(connectTimeout, opts.Timeout) })
	if opts.CAFile != "" {
		roots, err := roots(opts.CAFile)
		if err != nil {
			return aws.Config{}, err
		}
		client = client.WithTransportOptions(func(t *http.Transport) { t.TLSClientConfig.RootCAs = roots })
	}
	with := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithLogger(logging.Nop{}),
		config.WithRetryer(func() aws.Retryer { return retryer(opts.Attempts) }),
	}
	if opts.Region != "" {
		with = append(with, config.WithRegion(opts.Region))
	}
	if opts.Profile != "" {
		with = append(with, config.WithSharedConfigProfile(opts.Profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, with...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("configuration of the AWS SDK: %w", err)
	}
	if cfg.Region == "" && opts.Endpoint == "" {
		return aws.Config{}, fmt.Errorf("%w region: there is none, and Amazon S3 needs one; set it in the URL (region=) or by AWS_REGION", storage.ErrInvalid)
	}
	defaulted(&cfg.Region, "us-east-1")
	return cfg, nil
}

func roots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w CA file %s: there is no certificate in PEM form in it", storage.ErrInvalid, file)
	}
	return pool, nil
}

// retryer bounds the attempts at one request. There is no quota of retries over all requests, which would keep failing for a
// while after the store is back.
func retryer(attempts int) aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attempts
		o.MaxBackoff = maxBackoff
		o.RateLimiter = ratelimit.None
		o.Retryables = append(o.Retryables,
			retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{http.StatusTooManyRequests: {}}},
			// Two conditional writes at a time: the store asks for another try.
			retry.RetryableErrorCode{Codes: map[string]struct{}{"ConditionalRequestConflict": {}}},
		)
	})
}

func newClient(cfg aws.Config, opts Options, sum algorithm) *s3.Client {
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.HTTPClient = &watchful{cfg.HTTPClient, opts.Timeout}
		o.UsePathStyle = opts.PathStyle
		if opts.Endpoint != "" {
			o.BaseEndpoint = &opts.Endpoint
		}
		// We send checksums of our own; the SDK shall add none but where the protocol demands one.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.DisableLogOutputChecksumValidationSkipped = true
		if sum.sdk == "" {
			o.APIOptions = append(o.APIOptions, contentMD5)
		}
	})
}

// unsignedOverTLS are the options of requests that carry bytes of objects. Over TLS their SHA-256 is not part of the signature, which would take
// more time than all else: TLS keeps others from changing them, and our own checksum finds what goes wrong by itself.
func unsignedOverTLS(endpoint string) func(*s3.Options) {
	return func(o *s3.Options) {
		if !strings.HasPrefix(endpoint, "http://") {
			o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
		}
	}
}

// contentMD5 makes DeleteObjects, which has to have a checksum, carry the one that the oldest stores know. The names are those of the
// SDK's own middlewares, as its documentation gives them for this purpose.
func contentMD5(stack *middleware.Stack) error {
	if middleware := stack.ID(); middleware != "DeleteObjects" {
		return nil
	}
	for _, err := range []error{
		second(stack.Initialize.Remove("AWSChecksum:SetupInputContext")),
		second(stack.Finalize.Remove("AWSChecksum:ComputeInputPayloadChecksum")),
	} {
		if err != nil {
			return err
		}
	}
	_, _ = stack.Build.Remove("AWSChecksum:RequestMetricsTracking")
	_, _ = stack.Finalize.Remove("addInputChecksumTrailer")
	return smithyhttp.AddContentChecksumMiddleware(stack)
}

func second[T any](_ T, err error) error { return err }

// errStalled is why a request was given up.
var errStalled = errors.New("no byte has moved for too long")
