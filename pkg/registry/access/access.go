// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package access knows who may see which dump beyond what RBAC says about the request itself. A namespace can be deleted
// and made again by somebody else; the dumps of the earlier one are still in the bucket under the same name. So a dump is shown
// in its namespace only if it was taken in the namespace that lives now, which the UID tells. All other
// dumps (of another UID, of an unknown one, of a namespace that does not exist at present) are shown only to who
// may do the same thing in all namespaces.
package access

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/filters"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

// ErrUndecided is returned where kube-apiserver could not be asked. Trying again later may help.
var ErrUndecided = errors.New("cannot find out who may see this")

// Namespaces reads namespaces, from kube-apiserver and not from a cache: a stale answer would show
// one tenant's dumps to the next.
type Namespaces interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (*corev1.Namespace, error)
}

// Rule decides. Safe for concurrent use.
type Rule struct {
	namespaces Namespaces
	authorizer authorizer.UnconditionalAuthorizer
}

// NewRule makes a rule.
func NewRule(namespaces Namespaces, authorizer authorizer.UnconditionalAuthorizer) *Rule {
	return &Rule{namespaces: namespaces, authorizer: authorizer}
}

// View is what the user of one request may see. It asks at most once for the namespace, and at most once for the right
// in all namespaces, each when the first dump needs it. Not for concurrent use.
type View struct {
	rule      *Rule
	namespace string
	livingUID func(context.Context) (string, error)
	clusterOK func(context.Context) (bool, error)
}

// View begins a request in the namespace; empty means all namespaces, for which the request itself has been authorized,
// so that there is nothing left to decide.
func (r *Rule) View(namespace string) *View {
	v := &View{rule: r, namespace: namespace}
	v.livingUID = once(v.askUID)
	v.clusterOK = once(v.askCluster)
	return v
}

// Sees tells whether the user may see the dump. Its errors are of kind ErrUndecided.
func (v *View) Sees(ctx context.Context, d *v1alpha1.CoreDump) (bool, error) {
	if v.namespace == "" {
		return true, nil
	}
	uid, err := v.livingUID(ctx)
	if err != nil {
		return false, err
	}
	if uid != "" && d.Spec.NamespaceUID == uid {
		return true, nil
	}
	return v.clusterOK(ctx)
}

// Standing is what Sees goes by, for watches, which last: whether the user sees everything, and otherwise the UID of the namespace whose dumps he sees, or
// "" where it does not live. What holds for everything holds until the watch ends, as everywhere in Kubernetes; the UID has to be
// compared with Rule.LivingUID again before anything is shown later. Its errors are of kind ErrUndecided.
func (v *View) Standing(ctx context.Context) (everything bool, uid string, err error) {
	if v.namespace == "" {
		return true, "", nil
	}
	if everything, err = v.clusterOK(ctx); everything || err != nil {
		return everything, "", err
	}
	uid, err = v.livingUID(ctx)
	return false, uid, err
}

func (v *View) askUID(ctx context.Context) (string, error) { return v.rule.LivingUID(ctx, v.namespace) }

// LivingUID gives the UID of the living namespace, or "" where there is none. Its errors are of kind ErrUndecided.
func (r *Rule) LivingUID(ctx context.Context, namespace string) (string, error) {
	ns, err := r.namespaces.Get(ctx, namespace, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("%w: get namespace %s: %w", ErrUndecided, namespace, err)
	}
	return string(ns.UID), nil
}

// askCluster tells whether the user may do what the request does in all namespaces.
func (v *View) askCluster(ctx context.Context) (bool, error) {
	attributes, err := Attributes(ctx)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrUndecided, err)
	}
	attributes.Namespace = ""
	decision, _, err := v.rule.authorizer.Authorize(ctx, attributes)
	if decision == authorizer.DecisionAllow {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("%w: authorize in all namespaces: %w", ErrUndecided, err)
	}
	return false, nil
}

// Attributes describes the request of ctx to an authorizer. The subresource proxy counts as dump, and so does the creation of a presign:
// they give the same bytes, and one right gates them.
func Attributes(ctx context.Context) (authorizer.AttributesRecord, error) {
	a, err := filters.GetAuthorizerAttributes(ctx)
	if err != nil {
		return authorizer.AttributesRecord{}, err
	}
	record := *a.(*authorizer.AttributesRecord)
	switch record.Subresource {
	case "proxy":
		record.Subresource = "dump"
	case "presign":
		record.Verb, record.Subresource = "get", "dump"
	}
	return record, nil
}

// once keeps the first answer, errors too.
func once[T any](ask func(context.Context) (T, error)) func(context.Context) (T, error) {
	var answer T
	var err error
	asked := false
	return func(ctx context.Context) (T, error) {
		if !asked {
			answer, err = ask(ctx)
			asked = true
		}
		return answer, err
	}
}
