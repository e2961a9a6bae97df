// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package coredump

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/access"
	"example.io/coredump/pkg/registry/status"
)

var (
	_ rest.Storage      = (*PresignREST)(nil)
	_ rest.NamedCreater = (*PresignREST)(nil)
)

var (
	presigned = metrics.NewCounter(&metrics.CounterOpts{
		Name:           "coredump_apiserver_presigned_urls_total",
		Help:           "URLs of stored cores that were given out. What is read by them is not counted: it does not pass here.",
		StabilityLevel: metrics.ALPHA,
	})
	registerPresigned sync.Once
)

// Presigner makes URLs of what is stored of a dump; storage.Known does where its store can.
type Presigner interface {
	Presign(ctx context.Context, record *v1alpha1.CoreDump, ttl time.Duration) (url string, err error)
}

// PresignREST serves coredumps/presign: a URL of the stored object, for who may also get the bytes through the server. Its answer is
// never a redirect: kube-apiserver would refuse to pass it on.
type PresignREST struct {
	dumps      *REST
	presigner  Presigner
	authorizer authorizer.UnconditionalAuthorizer
	ttl        time.Duration
}

// NewPresignREST makes the storage. Ttl is how long the URLs can be used, whole seconds.
func NewPresignREST(dumps *REST, presigner Presigner, authorizer authorizer.UnconditionalAuthorizer, ttl time.Duration) *PresignREST {
	registerPresigned.Do(func() { legacyregistry.MustRegister(presigned) })
	return &PresignREST{dumps, presigner, authorizer, ttl}
}

// New gives an empty object.
func (*PresignREST) New() runtime.Object { return &v1alpha1.PresignedURL{} }

// Destroy has nothing to release.
func (*PresignREST) Destroy() {}

// Create makes a URL. The request has been authorized to create presign; the right to the bytes is another.
func (r *PresignREST) Create(ctx context.Context, name string, _ runtime.Object, _ rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	if err := r.authorize(ctx); err != nil {
		return nil, status.Of(ctx, err, resource, name)
	}
	if options != nil && len(options.DryRun) > 0 {
		return nil, apierrors.NewBadRequest("dryRun is not possible: a URL is a URL")
	}
	d, err := r.dumps.find(ctx, name)
	if err != nil {
		return nil, status.Of(ctx, err, resource, name)
	}
	expires := metav1.NewTime(r.dumps.now().Add(r.ttl).Truncate(time.Second))
	url, err := r.presigner.Presign(ctx, d, r.ttl)
	if err != nil {
		return nil, status.Of(ctx, err, resource, name)
	}
	presigned.Inc()
	r.tell(ctx, d, expires)
	return &v1alpha1.PresignedURL{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: d.Name},
		Status: v1alpha1.PresignedURLStatus{
			URL: url, Expires: expires,
			Codec: d.Status.Codec, StoredSize: d.Status.StoredSize, Checksum: d.Status.Checksum, Size: d.Status.Size, SHA256: d.Status.SHA256,
		},
	}, nil
}

func (r *PresignREST) authorize(ctx context.Context) error {
	a, err := access.Attributes(ctx)
	if err != nil {
		return err
	}
	decision, reason, err := r.authorizer.Authorize(ctx, a)
	switch {
	case decision == authorizer.DecisionAllow:
		return nil
	case err != nil:
		return fmt.Errorf("%w: authorize dump: %w", access.ErrUndecided, err)
	}
	return responsewriters.ForbiddenStatusError(a, reason)
}

// tell says in the audit log and in our own who got a URL of what. The URL itself is a secret.
func (r *PresignREST) tell(ctx context.Context, d *v1alpha1.CoreDump, expires metav1.Time) {
	audit.AddAuditAnnotations(ctx,
		"coredump.example.io/dumps", "1",
		"coredump.example.io/format", "presigned",
		"coredump.example.io/bytes", strconv.FormatInt(d.Status.Size, 10),
		"coredump.example.io/expires", expires.UTC().Format(time.RFC3339),
	)
	line := []any{"resource", resource.Resource, "namespace", d.Namespace, "name", d.Name, "coreBytes", d.Status.Size, "expires", expires.UTC()}
	if u, ok := request.UserFrom(ctx); ok {
		line = append(line, "user", u.GetName(), "uid", u.GetUID())
	}
	klog.FromContext(ctx).Info("Presigned URL", line...)
}
