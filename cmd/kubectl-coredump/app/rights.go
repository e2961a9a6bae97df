// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const group = "coredump.example.io"

// right is what somebody needs.
type right struct {
	verb, group, resource, subresource string
	name                               string // of the object, where there is one
	role                               string // the ClusterRole that gives it
}

// The rights, and who has them.
var (
	mayList     = right{verb: "list", group: group, resource: "coredumps", role: "coredump-viewer"}
	mayGet      = right{verb: "get", group: group, resource: "coredumps", role: "coredump-viewer"}
	mayDownload = right{verb: "get", group: group, resource: "coredumps", subresource: "dump", role: "coredump-downloader"}
)

func (r right) of(name string) right {
	r.name = name
	return r
}

func (r right) String() string {
	s := r.verb + " " + r.resource
	if r.subresource != "" {
		s += "/" + r.subresource
	}
	return s
}

// missingRight is a right that somebody has not.
type missingRight struct {
	right
	namespace string
	user      string
}

func (e *missingRight) Error() string {
	where, bind := "in all namespaces", "kubectl create clusterrolebinding NAME"
	if e.namespace != "" {
		where, bind = fmt.Sprintf("in namespace %s", e.namespace), fmt.Sprintf("kubectl create rolebinding NAME -n %s", e.namespace)
	}
	who, user := "you", "YOU"
	if e.user != "" {
		who, user = fmt.Sprintf("you (%s)", e.user), fmt.Sprintf("%q", e.user)
	}
	s := fmt.Sprintf("%s may not %s %s.", who, e.right, where)
	if e.role == "" {
		return s
	}
	return s + fmt.Sprintf("\nThe ClusterRole %s gives that right. Somebody who may bind it can do so:\n  %s --clusterrole=%s --user=%s", e.role, bind, e.role, user)
}

// need asks whether the user has the rights, and returns a *missingRight for the first that is missing. A server that does not answer the
// question does not stop anybody here: the request itself will tell.
func (s *session) need(ctx context.Context, namespace string, rights ...right) error {
	for _, r := range rights {
		review, err := s.core.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: namespace, Verb: r.verb, Group: r.group, Resource: r.resource, Subresource: r.subresource, Name: r.name,
			}},
		}, metav1.CreateOptions{})
		if err != nil || review.Status.Allowed {
			continue
		}
		return &missingRight{right: r, namespace: namespace, user: s.whoami(ctx)}
	}
	return nil
}

// whoami is the name by which the server knows the user; empty where it does not tell.
func (s *session) whoami(ctx context.Context) string {
	review, err := s.core.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return ""
	}
	return review.Status.UserInfo.Username
}
