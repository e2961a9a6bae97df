// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"encoding/json"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/fetch"
	"example.io/coredump/pkg/generated/clientset/versioned"
)

// session is what a command talks to.
type session struct {
	app       *App
	config    *rest.Config
	namespace string
	dumps     versioned.Interface
	core      kubernetes.Interface
}

// connect makes the clients. Nothing is asked yet.
func (a *App) connect() (*session, error) {
	loader := a.Config.ToRawKubeConfigLoader()
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, err
	}
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, err
	}
	config.UserAgent = rest.DefaultKubernetesUserAgent() // kubectl-coredump/…
	s := &session{app: a, config: config, namespace: namespace}
	if s.dumps, err = versioned.NewForConfig(config); err != nil {
		return nil, err
	}
	s.core, err = kubernetes.NewForConfig(config)
	return s, err
}

// object is where the bytes of a dump are, in the given format. Requests go over HTTP/1.1, each over a connection of its own: what one of them
// loses on the way does not hold up the others. They have no timeout, for how long they take depends on the dump.
func (s *session) object(namespace, name, format string) (*fetch.Object, error) {
	config := rest.CopyConfig(s.config)
	config.Timeout = 0
	config.NextProtos = []string{"http/1.1"}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // the API server never redirects
	url := func(subresource string) string {
		return s.dumps.CoredumpV1alpha1().RESTClient().Get().Namespace(namespace).Resource("coredumps").Name(name).
			SubResource(subresource).Param("format", format).URL().String()
	}
	return &fetch.Object{Client: client, Ranges: url("dump"), Whole: url("proxy"), Wrong: corrupt}, nil
}

// corrupt tells whether the server says that the stored object is not what its record says.
func corrupt(e *fetch.StatusError) bool {
	var said metav1.Status
	return json.Unmarshal(e.Body, &said) == nil && apierrors.HasStatusCause(&apierrors.StatusError{ErrStatus: said}, v1alpha1.CauseCorrupt)
}
